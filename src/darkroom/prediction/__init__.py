"""`darkroom predict`: find the pictures, run the model on them, and write or print the predictions."""
