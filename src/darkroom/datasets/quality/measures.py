"""Measure the light, the contrast and the sharpness of each image, in one pass over the pixels."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from darkroom.data.memmap import gather
from darkroom.images.decoder import Decoder

# So many images have their histograms in memory at once.
BLOCK = 1024
# Percentiles for the darkest and the lightest value: a few pixels count for nothing.
LOW, HIGH = 0.01, 0.99
VALUES = np.arange(256)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measures:
    """What N images look like: float64 [N] each.

    ``darkest`` and ``lightest`` are the 1st and the 99th percentile, 0 to 255, of the channel where it is lowest or
    highest; ``brightness`` is the mean of all values and ``contrast`` the standard deviation in the channel with the
    greatest one. ``sharpness`` is the steepest slope, in the channel with the widest range: the difference between
    neighboring pixels that an edge of an eighth of a side reaches, as a share of the range from the darkest to the
    lightest value. Even in a corner the outline of what covers 1 % of a picture is longer than that. An edge that is
    blurred by a Gaussian of s pixels has a slope of 0.4 / s.
    """

    darkest: Floats
    lightest: Floats
    brightness: Floats
    contrast: Floats
    sharpness: Floats

    @classmethod
    def of(
        cls,
        images: NDArray[np.uint8],
        rows: NDArray[np.int64],
        *,
        decoder: Decoder | None = None,
        original_sizes: NDArray[np.int64] | None = None,
    ) -> Self:
        """Measure the ``rows`` int64 [N] of ``images`` [M, C, H, W], some megabytes at a time.

        Where the ``decoder`` put bars beside an image of its ``original_sizes`` int64 [M, 2] (height, width), their
        edges do not count for the sharpness.
        """
        found = np.empty((5, len(rows)))
        padded = original_sizes if decoder and decoder.fit == "pad" else None
        done = 0
        for chunk in gather(images, rows):
            for start in range(0, len(chunk), BLOCK):
                pixels = chunk[start : start + BLOCK]
                here = slice(done, done + len(pixels))
                inside = None if padded is None else _inside(padded[rows[here]], images.shape[2:])
                found[:, here] = _measure(pixels, inside)
                done += len(pixels)
        return cls(*found)


def _measure(pixels: NDArray[np.uint8], inside: NDArray[np.bool_] | None) -> Floats:
    """The five measures of uint8 [B, C, H, W], float64 [5, B]; ``inside`` bool [B, H - 1, W - 1]."""
    count, channels, height, width = pixels.shape
    # Each channel is a picture of its own.
    levels = _histograms(pixels).reshape(count, channels, 256)
    low, high = (_percentiles(levels, int(share * height * width)) for share in (LOW, HIGH))
    mean = levels @ VALUES / (height * width)
    deviation = np.sqrt(np.maximum(levels @ VALUES**2 / (height * width) - mean**2, 0))
    span = high - low
    widest = span.argmax(axis=1)[:, None]
    chosen = np.take_along_axis(pixels, widest[..., None, None], axis=1)[:, 0]
    slopes = _slopes(chosen)
    if inside is not None:
        slopes *= inside
    slope = _percentiles(_histograms(slopes), max(0, slopes[0].size - max(1, (height + width) // 16)))
    sharpness = slope / np.maximum(np.take_along_axis(span, widest, axis=1)[:, 0], 1)
    return np.stack([low.min(axis=1), high.max(axis=1), mean.mean(axis=1), deviation.max(axis=1), sharpness])


def _histograms(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each channel of each image has each value: int64 [B * C, 256] of [B, C, H, W] or [B, H, W]."""
    flat = values.reshape(-1, values.shape[-2] * values.shape[-1])
    return np.stack([np.bincount(line, minlength=256) for line in flat])


def _percentiles(counts: NDArray[np.int64], rank: int) -> NDArray[np.int64]:
    """The value in place ``rank`` of the sorted values that were counted along the last axis."""
    found: NDArray[np.int64] = (counts.cumsum(axis=-1) > rank).argmax(axis=-1)
    return found


def _slopes(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The greater of the differences to the right and to the lower neighbor, uint8 [B, H - 1, W - 1]."""
    corner, right, below = pixels[:, :-1, :-1], pixels[:, :-1, 1:], pixels[:, 1:, :-1]
    # Of unsigned values a plain difference would wrap around.
    across = np.maximum(corner, right) - np.minimum(corner, right)
    down = np.maximum(corner, below) - np.minimum(corner, below)
    steeper: NDArray[np.uint8] = np.maximum(across, down)
    return steeper


def _inside(sizes: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Where both neighbors of a pixel are in the picture and not in the bars around it, bool [B, H - 1, W - 1]."""
    target = np.array(shape)
    known = np.maximum(sizes, 1)
    scale = (target / known).min(axis=1, keepdims=True)
    inner = np.maximum(1, np.rint(scale * known).astype(np.int64))
    first = (target - inner) // 2
    is_inside = []
    for axis in (0, 1):
        places = np.arange(target[axis] - 1)
        begin = first[:, axis, None]
        is_inside.append((places >= begin) & (places < begin + inner[:, axis, None] - 1))
    found: NDArray[np.bool_] = is_inside[0][:, :, None] & is_inside[1][:, None, :]
    return found
