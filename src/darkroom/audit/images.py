"""All images of a dataset in one file, in the order of their folds: all but one fold are one piece of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom.data.batches import Split
from darkroom.data.memmap import MappedImages, release, reserve

BLOCK_BYTES = 4 << 20
# The inputs and their shape, in the order of the images: uint8 [n, C, H, W] or float32 [n, features, 1, 1].
Blocks = Iterator[Tensor]


@dataclass(frozen=True)
class FoldedImages:
    """N images in the order of their folds, and all but the last fold once more behind them.

    ``rows`` int64 [N] says which image each one is, ``begins`` int64 [folds + 1] where each fold begins. The images
    that fold k is not trained on are one piece, and those that it is are one too: nothing is copied for a training.
    """

    images: Split
    rows: NDArray[np.int64]
    begins: NDArray[np.int64]

    @property
    def count(self) -> int:
        return len(self.begins) - 1

    @property
    def train_size(self) -> int:
        """How many images each fold is trained on: equally many, so that they can be trained as one program."""
        return len(self.rows) - int(np.diff(self.begins).max())

    def train(self, fold: int) -> Split:
        """The images that the model of ``fold`` is trained on."""
        start = int(self.begins[fold + 1])
        return self._piece(start, start + self.train_size)

    def held_out(self, fold: int) -> Split:
        """The images that it has never seen."""
        return self._piece(int(self.begins[fold]), int(self.begins[fold + 1]))

    def _piece(self, start: int, end: int) -> Split:
        assert isinstance(self.images.images, Tensor), "one file"
        return Split(self.images.images[start:end], self.images.labels[start:end], self.images.mapping)


def fold_images(
    blocks: Blocks,
    labels: NDArray[np.int64],
    folds: NDArray[np.int64],
    path: Path,
    on_block: Callable[[int], None] = lambda images: None,
) -> FoldedImages:
    """Write the images of ``blocks``, which are N together in the order of ``labels`` int64 [N], to ``path``.

    ``folds`` int64 [N] numbers the fold of each. ``on_block`` is given the number of images of each block written.
    """
    rows = np.argsort(folds, kind="stable")
    begins = np.concatenate([[0], np.cumsum(np.bincount(folds))])
    total, again = len(rows), int(begins[-2])
    places = np.empty(total, np.int64)
    places[rows] = np.arange(total)
    stored: NDArray[Any] | None = None
    done = 0
    shape: tuple[int, ...] = ()
    dtype = torch.uint8
    for block in blocks:
        if stored is None:
            shape, dtype = (total + again, *block.shape[1:]), block.dtype
            reserve(path, (total + again) * block[0].nbytes)
            stored = np.memmap(path, dtype=block.numpy().dtype, mode="r+", shape=shape)
        own = places[done : done + len(block)]
        stored[own] = block.numpy()
        repeated = own < again
        stored[total + own[repeated]] = block.numpy()[repeated]
        release(stored)
        done += len(block)
        on_block(len(block))
    assert done == total, "as many images as labels"
    ordered = torch.from_numpy(labels[np.concatenate([rows, rows[:again]])])
    mapping = MappedImages(path, shape, 0, dtype)
    return FoldedImages(Split(mapping.tensor, ordered, mapping), rows, begins)


def blocks_of(split: Split) -> Blocks:
    """The images of ``split`` in their order, of several views the first, some megabytes at a time."""
    step = max(1, BLOCK_BYTES // split.images[0].nbytes) * split.views
    for start in range(0, len(split), step):
        block = split.images[start : start + step : split.views]
        yield block
        if split.mapping:
            split.mapping.touched(len(block))
