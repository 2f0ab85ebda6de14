"""Small versions of large images, in a file: the low frequencies that are compared need no more."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.data.memmap import allocate, gather

SIDE = 32


def thumbnails(
    images: NDArray[np.uint8], rows: NDArray[np.int64], path: Path
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The ``rows`` of ``images`` [N, C, H, W] with sides of at most 32 pixels, and their rows in what is returned.

    Smaller ones are returned as they are, others are written to ``path``.
    """
    height, width = images.shape[2:]
    if max(height, width) <= SIDE:
        return images, rows
    down, across = _means(height, min(SIDE, height)), _means(width, min(SIDE, width))
    small = allocate(path, (len(rows), images.shape[1], len(down), len(across)))
    done = 0
    for pixels in gather(images, rows):
        reduced = down @ (pixels.reshape(-1, width).astype(np.float32) @ across.T).reshape(-1, height, len(across))
        small[done : done + len(pixels)] = np.rint(reduced).reshape(len(pixels), *small.shape[1:])
        done += len(pixels)
    return small, np.arange(len(rows))


def _means(pixels: int, parts: int) -> NDArray[np.float32]:
    """The means of equal parts of a side, as a matrix [parts, pixels]; a part may begin within a pixel."""
    edges = np.linspace(0, pixels, parts + 1)
    places = np.arange(pixels)
    covered = np.minimum(places + 1, edges[1:, None]) - np.maximum(places, edges[:-1, None])
    means: NDArray[np.float32] = (np.clip(covered, 0, None) * (parts / pixels)).astype(np.float32)
    return means
