"""Suspicious images, and classes that can be told from what has nothing to do with the thing."""
