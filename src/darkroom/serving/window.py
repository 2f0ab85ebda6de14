"""The latest answers of a model, of this process or of several that share a file."""

import mmap
import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.evaluation.metrics import Floats, Ints

if sys.platform != "win32":
    import fcntl

COUNT = np.dtype(np.int64)
LABEL = np.dtype(np.int32)
CONFIDENCE = np.dtype(np.float32)
SET_SIZE = np.dtype(np.int32)


class Window:
    """The latest ``size`` answers: labels int32, confidences float32, sizes of sets int32 and what is unlike training
    bool, each [size].

    Processes that open the same ``file`` share them. Each of them may be killed at any time: the system then releases
    its lock, and the next one overwrites what it had not finished.
    """

    def __init__(self, size: int, file: Path | None = None) -> None:
        self.size = size
        self._descriptor: int | None = None
        length = COUNT.itemsize + size * (LABEL.itemsize + CONFIDENCE.itemsize + SET_SIZE.itemsize + 1)
        if file is None:
            memory = np.zeros(length, np.uint8)
        else:
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
            weakref.finalize(self, os.close, self._descriptor)
            os.ftruncate(self._descriptor, length)  # zeros, for the first process
            memory = np.frombuffer(mmap.mmap(self._descriptor, length), np.uint8)
        widths = (LABEL.itemsize, CONFIDENCE.itemsize, SET_SIZE.itemsize)
        ends = np.cumsum([COUNT.itemsize, *(size * width for width in widths)])
        count, labels, confidences, set_sizes, unlike = np.split(memory, ends)
        self._seen: NDArray[np.int64] = count.view(COUNT)
        self._labels: NDArray[np.int32] = labels.view(LABEL)
        self._confidences: NDArray[np.float32] = confidences.view(CONFIDENCE)
        self._set_sizes: NDArray[np.int32] = set_sizes.view(SET_SIZE)
        self._unlike: NDArray[np.bool_] = unlike.view(np.bool_)

    def add(self, labels: Ints, confidences: Floats, unlike: NDArray[np.bool_], set_sizes: Ints) -> None:
        """Add answers, each [n], in place of the oldest."""
        with self._locked():
            seen = int(self._seen[0])
            places = (seen + np.arange(len(labels)))[-self.size :] % self.size
            columns = (
                (self._labels, labels),
                (self._confidences, confidences),
                (self._unlike, unlike),
                (self._set_sizes, set_sizes),
            )
            for kept, new in columns:
                kept[places] = new[-self.size :]
            self._seen[0] = seen + len(labels)

    def __len__(self) -> int:
        return min(int(self._seen[0]), self.size)

    @property
    def labels(self) -> NDArray[np.int32]:
        return self._labels[: len(self)]

    @property
    def confidences(self) -> NDArray[np.float32]:
        return self._confidences[: len(self)]

    @property
    def set_sizes(self) -> NDArray[np.int32]:
        return self._set_sizes[: len(self)]

    @property
    def unlike(self) -> NDArray[np.bool_]:
        return self._unlike[: len(self)]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._descriptor is None:
            yield
            return
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
