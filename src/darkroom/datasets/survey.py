"""Choose the channels and the size for all images of a folder, from their headers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from darkroom.datasets.decoding import Headers
from darkroom.errors import DataError
from darkroom.images.decoder import Channels, Decoder, Fit

DEFAULT_SIDE = 64
LARGEST_SIDE = 512
# Sides of other shapes than square are multiples of this, so that a network can halve them twice.
SIDE_STEP = 4
# Shapes count as the same if their proportions differ by less than a rounded side makes them differ.
SAME_SHAPE = 1.02
# A change of the median picture by less than this is not worth a line.
LEAST_TOLD = 0.02


def common_channels(headers: Headers, names: Sequence[str], bands: Sequence[int] | None) -> Channels:
    """1 if all images are gray or one of their ``bands`` is chosen, 3 if all have color. Raises DataError if both."""
    if bands:
        return 1 if len(bands) == 1 else 3
    gray, color = (np.flatnonzero(headers["channels"] == channels) for channels in (1, 3))
    if len(gray) and len(color):
        raise DataError(
            f"gray and color images are mixed ({len(gray):,} as {names[gray[0]]} are gray, {len(color):,} as "
            f"{names[color[0]]} are in color); set preprocess.channels to 1 or 3 to make them all the same"
        )
    return 1 if len(gray) else 3


def common_size(headers: Headers) -> tuple[int, int]:
    """Height and width: those of all images where they agree and are small, else about 64x64 pixels of their shape."""
    widths, heights = _sides(headers)
    if not len(widths):
        return DEFAULT_SIDE, DEFAULT_SIDE
    are_equal = (widths == widths[0]).all() and (heights == heights[0]).all()
    if are_equal and max(widths[0], heights[0]) <= LARGEST_SIDE:
        return int(heights[0]), int(widths[0])
    shapes = widths / heights
    if shapes.max() <= shapes.min() * SAME_SHAPE:
        stretch = float(np.sqrt(np.median(shapes)))
        if max(stretch, 1 / stretch) > SAME_SHAPE:
            return _side(DEFAULT_SIDE / stretch), _side(DEFAULT_SIDE * stretch)
    return DEFAULT_SIDE, DEFAULT_SIDE


def _side(pixels: float) -> int:
    return int(np.clip(SIDE_STEP * round(pixels / SIDE_STEP), SIDE_STEP, LARGEST_SIDE))


def share_lost(headers: Headers, size: tuple[int, int], how: Fit) -> float:
    """The share of the median image that is lost when it is fitted to ``size`` (height, width); 0 for none.

    ``crop``: the share of it that is cut away; ``pad``: the share of the result that is bars; ``stretch``: by how
    much its proportions change.
    """
    widths, heights = _sides(headers)
    if not len(widths):
        return 0.0
    shapes = (widths / heights) / (size[1] / size[0])
    change = float(np.median(np.minimum(shapes, 1 / shapes)))
    return 1 / change - 1 if how == "stretch" else 1 - change


def notes(headers: Headers, decoder: Decoder) -> list[str]:
    """Notes for the user on how the images are read, in lines."""
    found = []
    pages = int(np.count_nonzero(headers["has_pages"]))
    if pages:
        one = "1 file holds" if pages == 1 else f"{pages:,} files hold"
        found.append(f"{one} several pictures or pages; the first of each is read")
    lost = share_lost(headers, decoder.size, decoder.fit)
    if lost >= LEAST_TOLD:
        size = "x".join(map(str, decoder.size))
        what = {
            "crop": f"cuts {lost:.0%} of the median picture away; pad keeps all of it",
            "pad": f"adds bars to the median picture, {lost:.0%} of the result; crop or stretch fill it",
            "stretch": f"changes the proportions of the median picture by {lost:.0%}; pad keeps them",
        }[decoder.fit]
        found.append(f"preprocess.fit: {decoder.fit} to {size} {what}")
    return found


def count_sizes(headers: Headers) -> dict[str, int]:
    """How many images are "width x height", common sizes first; images whose header cannot be read do not count."""
    widths, heights = (side.astype(np.int64) for side in _sides(headers))
    # One number for each size: numpy sorts pairs many times slower.
    sizes, first, counts = np.unique(widths << 32 | heights, return_index=True, return_counts=True)
    common = np.lexsort((first, -counts))
    return {f"{sizes[place] >> 32}x{sizes[place] & 0xFFFFFFFF}": int(counts[place]) for place in common}


def _sides(headers: Headers) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    readable = headers[headers["channels"] > 0]
    return readable["width"], readable["height"]
