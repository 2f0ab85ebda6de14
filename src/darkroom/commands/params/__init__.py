"""The text of params.yaml and its schema, both generated from the settings. `make params` writes them."""
