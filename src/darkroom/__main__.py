"""`python -m darkroom`, the same as `darkroom`."""

from darkroom.cli import main

main()
