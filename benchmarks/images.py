"""The images that the benchmarks of training share."""

import gzip
from pathlib import Path

import numpy as np
from benchmarks.machine import ROOT
from numpy.typing import NDArray

RAW = ROOT / "data" / "raw" / "fashion-mnist"
CLASSES = 10


def source() -> str:
    return "Fashion-MNIST" if RAW.is_dir() else "made images of Fashion-MNIST's shape (speed does not depend on pixels)"


def read(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """``count`` images uint8 [N, 1, 28, 28] and their labels."""
    if not RAW.is_dir():
        generator = np.random.default_rng(0)
        labels = generator.integers(0, CLASSES, count)
        return generator.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8), labels
    images, labels = _split(RAW, "train")
    return images[:count].copy(), labels[:count]


def published(directory: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All images uint8 [N, 1, 28, 28] of MNIST's archives, or others like them, and their labels: train, then test."""
    images, labels = zip(*(_split(directory, name) for name in ("train", "t10k")), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _split(directory: Path, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    with gzip.open(directory / f"{name}-images-idx3-ubyte.gz") as opened:
        images = np.frombuffer(opened.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(directory / f"{name}-labels-idx1-ubyte.gz") as opened:
        labels = np.frombuffer(opened.read(), np.uint8, offset=8).astype(np.int64)
    return images, labels
