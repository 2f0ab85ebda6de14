"""Photographs in directories of their classes, for the benchmarks of transfer learning."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MODEL = "tf_efficientnet_lite0"
SIDE = 224
MEAN = STD = (0.5, 0.5, 0.5)
ACCURACY = "test accuracy, %"


def classes(images: Path) -> list[str]:
    return sorted(path.name for path in (images / "train").iterdir())


def files(split: Path) -> tuple[list[Path], NDArray[np.int64]]:
    """The files of a split and the numbers of their classes, in the order of the classes' names."""
    found = [
        (path, number) for number, name in enumerate(classes(split.parent)) for path in sorted((split / name).iterdir())
    ]
    return [path for path, _ in found], np.array([number for _, number in found])


def opened(paths: list[Path]) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in paths]


def accuracy(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """In percent."""
    return 100 * float((predicted == labels).mean())
