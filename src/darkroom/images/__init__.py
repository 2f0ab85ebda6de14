"""Decode one image: from the bytes of a file to pixels of the wanted size and channels."""
