"""From files to arrays: the sources of images, their classes and splits, and what is wrong with them."""
