"""The bodies of the commands, one module each. `cli` parses the arguments and calls them."""
