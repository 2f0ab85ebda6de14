"""One module a stage: read settings and files, call the parts, write files."""
