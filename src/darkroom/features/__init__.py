"""Features of a frozen model, computed once, and heads that are trained on them."""
