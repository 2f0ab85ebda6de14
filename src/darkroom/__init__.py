"""Darkroom: from labeled images to a classifier in production."""

__version__ = "0.1.0"
