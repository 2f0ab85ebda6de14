"""The file formats that a model can be exported to, and the check that the file gives the same answers."""
