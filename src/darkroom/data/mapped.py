"""Arrays that lie in files."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def allocate(path: Path, shape: tuple[int, ...], offset: int = 0) -> NDArray[np.uint8]:
    """A writable uint8 array mapped from a new file, from byte ``offset`` on.

    The space is taken at once: on a full disk this raises OSError, where a sparse file would end the
    process with a bus error at some later write.
    """
    size = offset + int(np.prod(shape, dtype=np.int64))
    with path.open("r+b" if path.exists() else "w+b") as opened:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(opened.fileno(), 0, size)
        else:  # macOS
            opened.truncate(size)
    return np.memmap(path, dtype=np.uint8, mode="r+", offset=offset, shape=shape)
