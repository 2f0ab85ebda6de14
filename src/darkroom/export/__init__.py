"""Taking a model elsewhere: as a file that is proven to give the same answers before it is there."""
