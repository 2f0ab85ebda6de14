"""How a dataset of drawn signs lays them out, and laying out a drawing in the same way."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ink:
    """What the signs of a dataset have in common: light strokes on a dark ground.

    ``extent`` is the longer side of the box around a sign, as a share of the image's side; ``by_mass`` says whether
    its centre of mass lies in the middle of the image, else the middle of that box does.
    """

    extent: float
    by_mass: bool


def measure_ink(images: NDArray[np.uint8]) -> Ink | None:
    """The layout of the signs in ``images`` uint8 [N, C, H, W], or None if they are no signs on an empty ground."""
    return None


def place(drawing: NDArray[np.uint8], ink: Ink, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Lay out a drawing, uint8 [h, w] with light strokes on black, as the dataset does: uint8 [1, *size]."""
    raise NotImplementedError
