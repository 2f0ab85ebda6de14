"""Helpers that know of no image and no model: files, signals, memory, the console."""
