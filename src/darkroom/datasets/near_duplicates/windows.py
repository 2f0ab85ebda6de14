"""Describe what a window of an image shows, by a few numbers that do not depend on brightness and contrast.

The low frequencies of a window, by its cosine transform, weighted by their frequency, which evens out the spectrum of
natural images. Mirroring an image changes the sign of its odd frequencies across, and nothing else: descriptors are
kept as an even and an odd part, and two images are as similar as even . even + |odd . odd|, mirrored or not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Frequencies of the lightness and of the two color differences along each side.
FREQUENCIES = 8
COLOR_FREQUENCIES = 6
COLOR_WEIGHT = 0.7
# Components that are kept of each part, and how far their variances are made equal.
COMPONENTS = 32
WHITENING = 0.5
# Gray levels: contrasts of less than about this are noise.
NOISE = 2.0
FLAT = 1.0
# The side of the central window, as a share of the image's: a copy that was shifted by 2 of 28 pixels still has it.
SIDE = 0.82


@dataclass(frozen=True)
class Window:
    """A window of an image: its sides as a share of the image's, and the offset of its center from the middle."""

    side: float = SIDE
    down: float = 0.0
    right: float = 0.0

    def is_beside(self, other: "Window") -> bool:
        """Whether the other has about the same side and place: a step of the grids below away at most."""
        step = 0.04 if self.side == other.side == SIDE else 0.026
        near = max(abs(self.down - other.down), abs(self.right - other.right)) < step
        return near and abs(self.side - other.side) < 0.06 * SIDE


CENTER = Window()


def grid(scale: float, step: float, reach: int) -> list[Window]:
    """Windows of ``scale`` times the usual side around the middle, ``reach`` steps in each direction."""
    steps = [step * number for number in range(-reach, reach + 1)]
    return [Window(scale * SIDE, down, right) for right in steps for down in steps]


@dataclass(frozen=True)
class Descriptors:
    """Unit vectors of N windows: ``even`` and ``odd`` float32 [N, components]; zero for those without contrast."""

    even: Floats
    odd: Floats

    def __len__(self) -> int:
        return len(self.even)

    def __getitem__(self, rows: Any) -> "Descriptors":
        return Descriptors(self.even[rows], self.odd[rows])

    @classmethod
    def join(cls, parts: Sequence["Descriptors"]) -> "Descriptors":
        return cls(np.concatenate([part.even for part in parts]), np.concatenate([part.odd for part in parts]))

    def similarity(self, other: "Descriptors") -> Floats:
        """Of each pair of both, float32 [N, M], 1 for equal ones, mirrored or not."""
        found: Floats = self.odd @ other.odd.T
        np.abs(found, out=found)
        found += self.even @ other.even.T
        return found

    def pairwise(self, other: "Descriptors") -> Floats:
        """Of each row with the same row of ``other``, float32 [N]."""
        odd = np.einsum("nd,nd->n", self.odd, other.odd)
        found: Floats = np.einsum("nd,nd->n", self.even, other.even) + np.abs(odd)
        return found


@dataclass(frozen=True)
class Basis:
    """The principal components of a dataset's central windows, for the two parts of a descriptor."""

    mean: Floats
    even: Floats
    odd: Floats

    @classmethod
    def fit(cls, images: NDArray[np.uint8]) -> "Basis":
        """The basis for a sample of ``images`` uint8 [N, C, H, W]."""
        even, odd, _ = next(_transform(images, [CENTER]))
        mean = even.mean(axis=0, dtype=np.float32)
        # Mirrored images are as likely as the images: the mean of the odd part is zero.
        return cls(mean, _components(even - mean), _components(odd))

    def describe(self, images: NDArray[np.uint8], windows: Sequence[Window]) -> Iterator[Descriptors]:
        """What each of the ``windows`` of the images, uint8 [N, C, H, W], shows, one window after another."""
        for even, odd, contrast in _transform(images, windows):
            first, second = (even - self.mean) @ self.even, odd @ self.odd
            length = np.sqrt(np.einsum("nd,nd->n", first, first) + np.einsum("nd,nd->n", second, second))
            scale: Any = np.where(contrast > FLAT, 1 / np.maximum(length, 1e-9), 0).astype(np.float32)[:, None]
            yield Descriptors(first * scale, second * scale)


def _components(values: Floats) -> Floats:
    variances, directions = np.linalg.eigh(values.T @ values / len(values))
    chosen = np.argsort(-variances)[:COMPONENTS]
    # Directions without variance are left as they are, and not enlarged.
    spread = np.maximum(variances[chosen], 1e-3 * variances.max() + 1e-12)
    found: Floats = (directions[:, chosen] * spread ** (-WHITENING / 2)).astype(np.float32)
    return found


def _transform(images: NDArray[np.uint8], windows: Sequence[Window]) -> Iterator[tuple[Floats, Floats, Floats]]:
    """For each window its weighted frequencies, the even and the odd ones across, and the contrast in gray levels."""
    values = images.astype(np.float32)
    lightness = _frequencies(values.mean(axis=1, keepdims=True), FREQUENCIES, windows)
    colors: Iterator[Floats | None] = repeat(None)
    if images.shape[1] == 3:
        red, green, blue = values[:, 0], values[:, 1], values[:, 2]
        differences = np.stack([red - green, (red + green) / 2 - blue], axis=1)
        colors = _frequencies(differences, COLOR_FREQUENCIES, windows)
    for light, color in zip(lightness, colors, strict=False):
        contrast = _length(light)
        parts = [light / (contrast + NOISE)]
        if color is not None:
            parts.append(color * (COLOR_WEIGHT / (_length(color) + NOISE)))
        even = np.concatenate([part[:, :, 0::2].reshape(len(images), -1) for part in parts], axis=1)
        odd = np.concatenate([part[:, :, 1::2].reshape(len(images), -1) for part in parts], axis=1)
        yield even, odd, contrast.ravel()


def _length(values: Floats) -> Floats:
    """The length of all of each image's ``values`` [N, C, K, K] as one vector, [N, 1, 1, 1]."""
    found: Floats = np.sqrt(np.einsum("nckl,nckl->n", values, values))[:, None, None, None]
    return found


def _frequencies(planes: Floats, count: int, windows: Sequence[Window]) -> Iterator[Floats]:
    """The first ``count`` frequencies across and down [N, C, K, K] of each window of ``planes`` [N, C, H, W].

    They are weighted by their frequency: the mean becomes 0.
    """
    images, channels, height, width = planes.shape
    weights = np.hypot(*np.indices((count, count))).astype(np.float32)
    # One large product for each side is many times faster than a small one for each image.
    key, across = None, planes
    for window in windows:
        if key != (window.side, window.right):
            key = (window.side, window.right)
            product = planes.reshape(-1, width) @ _cosines(width, count, *key).T
            across = np.ascontiguousarray(product.reshape(images * channels, height, count).transpose(0, 2, 1))
        both = across.reshape(-1, height) @ _cosines(height, count, window.side, window.down).T
        found: Floats = both.reshape(images, channels, count, count)
        found *= weights
        yield found


@cache
def _cosines(pixels: int, count: int, side: float, offset: float) -> Floats:
    """The cosine transform of a window along one side, as a matrix [count, pixels]."""
    fine = 16  # points in a pixel, which the window may cut
    places = (np.arange(pixels * fine) + 0.5) / (pixels * fine)
    inside = (places - 0.5 - offset) / side + 0.5
    is_inside = (inside >= 0) & (inside <= 1)
    waves = np.cos(np.pi * inside * np.arange(count)[:, None]) * is_inside
    waves[1:] *= np.sqrt(2)
    found: Floats = (waves.reshape(count, pixels, fine).sum(axis=2) / is_inside.sum()).astype(np.float32)
    return found
