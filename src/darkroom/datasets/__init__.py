"""How files become arrays: where images come from, what class and split they have, and what is wrong with them."""
