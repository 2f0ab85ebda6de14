"""What the whole project uses, and what knows of no image and no model: files, signals, memory, the console."""
