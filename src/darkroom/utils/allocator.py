"""How this process gets memory from the system."""

import ctypes

# Parameters of mallopt(3), from glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4
NEVER = -1
GROWTH_BYTES = 256 << 20


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed for the next allocation. Whether that was possible: glibc alone can.

    By default it maps every large block again and gives it back when it is freed, so that each step of a
    training on the CPU has the system zero the pages of all its activations again. Kept, they are there
    already: the same numbers, sooner. The process then holds on to the most it has ever used.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library than glibc
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, GROWTH_BYTES))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
