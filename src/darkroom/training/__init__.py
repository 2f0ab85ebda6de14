"""The training core: torch and the data path, nothing that tracks."""
