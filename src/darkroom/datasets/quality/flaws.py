"""Find images that are dark, bright, blurred, of one color, or of an odd size or shape.

An image is named only if it is both beyond a bound that holds for pictures of any kind, and far from the other images
of its dataset: X-rays may be dark, and thumbnails blurred.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.datasets.quality.measures import Floats, Measures

KINDS = ("one color", "dark", "bright", "blurred", "odd size", "odd shape")
# A quarter of the range: in sRGB 5 % of the light of white, about that of coal beside paper.
DARK = BRIGHT = 64.0
# Levels of standard deviation: 2 % of the range, about the least contrast that an eye notices (Weber's law).
FLAT = 0.02 * 255
# The slope of a line that is blurred by a Gaussian of 2 pixels (0.6 / 2), or of an edge by one of 1.3 (0.4 / 1.3).
BLURRED = 0.3
# Sides of half or twice the usual length.
SIZE_FACTOR = 4.0
# A photograph of 10:3 among those of 4:3; the widest format of the cinema is 2.76:1.
SHAPE_FACTOR = 2.5
# Of a size or shape that more images than this share have, none is odd.
RARE = 0.01
# Robust standard deviations. Of a distribution with longer tails than the normal one, the logistic, 6 in 100,000 are
# beyond this; beyond the usual 3.5 (Iglewicz and Hoaglin, 1993) there would be 330.
FAR = 6.0
# The least deviation that is taken for the scale, in logarithms.
LEAST_SCALE = 0.1


@dataclass(frozen=True)
class Flaw:
    """A suspicious image: its ``position`` among those measured, and a ``score`` from 0.5 (at the bound) to 1."""

    kind: str
    position: int
    score: float
    reason: str


def find_flaws(measures: Measures, sizes: NDArray[np.int64] | None = None) -> list[Flaw]:
    """The suspicious ones of N measured images, in the order of KINDS, the worst of each kind first.

    ``sizes`` int64 [N, 2] are the heights and widths in their files. Only the first kind counts of an image that is too
    dark, too bright, without contrast or blurred.
    """
    found = [
        *_low(
            "one color", measures.contrast, FLAT,
            "its values deviate by {:.1f} levels of 255, those of the median image by {:.1f}",
        ),
        *_low(
            "dark", measures.lightest, DARK,
            "99 % of its values are at most {:.0f} of 255, those of the median image {:.0f}",
        ),
        *_low(
            "bright", 255 - measures.darkest, BRIGHT,
            "99 % of its values are within {:.0f} levels of white, those of the median image within {:.0f}",
        ),
        *_low(
            "blurred", measures.sharpness, BLURRED,
            "its edges rise by {:.0%} of its range from pixel to pixel, those of the median image by {:.0%}",
        ),
    ]  # fmt: skip
    first: dict[int, Flaw] = {}
    for flaw in found:
        first.setdefault(flaw.position, flaw)
    return [*first.values(), *(_of_size(np.maximum(sizes, 1)) if sizes is not None else ())]


def _low(kind: str, values: Floats, bound: float, reason: str) -> list[Flaw]:
    """Images whose value is at most ``bound``, and far below the others'."""
    # A tenth of the bound more, so that zero has a logarithm.
    logs = np.log(values + bound / 10)
    deviations = logs - np.median(logs)
    # What is usual is read from the upper half: the lower one may hold all pictures of a bad camera.
    scale = _scale(deviations[deviations >= 0])
    rows = np.flatnonzero((values <= bound) & (deviations <= -FAR * scale))
    usual = float(np.median(values))
    return _worst_first(
        Flaw(kind, row, 1 - value / bound / 2, reason.format(value, usual))
        for row, value in zip(rows.tolist(), values[rows].tolist(), strict=True)
    )


def _of_size(sizes: NDArray[np.int64]) -> list[Flaw]:
    heights, widths = sizes.T.astype(float)
    usual = "{:.0f}x{:.0f}".format(*np.median([widths, heights], axis=1))
    return [
        *_odd("odd size", np.log(heights * widths), SIZE_FACTOR, sizes, f"of a median size of {usual}"),
        *_odd("odd shape", np.abs(np.log(widths / heights)), SHAPE_FACTOR, sizes, f"of a median size of {usual}"),
    ]


def _odd(kind: str, logs: Floats, factor: float, sizes: NDArray[np.int64], usual: str) -> list[Flaw]:
    """Images whose value is by ``factor`` less or more than the usual one, which few are."""
    deviations = logs - np.median(logs)
    scale = _scale(deviations)
    found: list[Flaw] = []
    for side in (-1, 1):
        rows = np.flatnonzero(side * deviations >= max(np.log(factor), FAR * scale))
        if len(rows) <= max(1, RARE * len(logs)):
            found += [
                Flaw(
                    kind,
                    row,
                    float(1 - factor / np.exp(abs(deviations[row])) / 2),
                    f"{sizes[row, 1]}x{sizes[row, 0]} pixels, among images {usual}",
                )
                for row in rows.tolist()
            ]
    return _worst_first(found)


def _scale(deviations: Floats) -> float:
    """The median distance from the median, as if of a normal distribution."""
    return max(1.4826 * float(np.median(np.abs(deviations))), LEAST_SCALE)


def _worst_first(flaws: Iterable[Flaw]) -> list[Flaw]:
    return sorted(flaws, key=lambda flaw: -flaw.score)
