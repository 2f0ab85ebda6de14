"""The forms of file in which a model is taken elsewhere, and whether it still gives the same answers there."""
