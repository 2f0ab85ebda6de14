"""Export a model to a file that is checked, before it is put in place, to give the same answers."""
