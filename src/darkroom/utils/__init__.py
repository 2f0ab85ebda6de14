"""Helpers independent of images and models: files, signals, memory, the console."""
