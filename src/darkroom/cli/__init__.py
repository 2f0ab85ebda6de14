"""The command line: parses arguments and calls a command. Typer only; a module for each panel of `--help`."""
