"""Features of a frozen model, computed once, and the training of heads on them."""
