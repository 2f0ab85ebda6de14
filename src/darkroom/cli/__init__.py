"""The command line: what was typed, as arguments of a command. Typer only; a module for each panel of `--help`."""
