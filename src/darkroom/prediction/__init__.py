"""`darkroom predict`: the pictures that are named, their predictions, and how these are written and shown."""
