"""The text of params.yaml and its schema, both made from the settings. `make params` writes them."""
