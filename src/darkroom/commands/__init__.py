"""What each command does, a module each. `cli` reads what was typed, and calls them."""
