"""Units of memory and of files, in bytes."""

KILOBYTE = 1_000
MEGABYTE = 1_000_000
GIGABYTE = 1_000_000_000
MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30
