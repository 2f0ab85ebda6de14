"""Pixels of more than 8 bits: read their full depth, and choose which values become black and white.

Pillow gives 16-bit gray, 32-bit integers and floats as they are, but of 16-bit color only the high byte of each value.
The low byte is read by giving its decoder the other byte order.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from darkroom.images.containers import PNG, WHITE_IS_ZERO, TiffTags

Values = NDArray[np.integer[Any] | np.floating[Any]]
Range = tuple[float, float]

DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
FULL: Range = (0, 65535)
# No measurement is as large; GIS programs write the lowest or highest float where there is none.
HUGE = 1e30
# Read at once: a large picture is not held several times over, in eight bytes a value.
ROWS_PIXELS = 1 << 20
# The range is that of all values, unless it is more than SPREAD times the range between these percentiles, because a
# few values are far outside: then it is the range between the percentiles.
PERCENTILES = (0.1, 99.9)
SPREAD = 2.0
# A single value is taken for "no data" if it is further from all others than these are from each other, at least this
# share of the pixels has it, and there are this many different values.
SENTINEL_SHARE = 0.001
SENTINEL_VALUES = 16
# Below this, 16 bits that are read as 0 to 65,535 would be all but black.
DARK = 4096

# Offsets of bytes in a PNG file.
PNG_DEPTH = 24
PNG_COLOR_TYPE = 25
GRAY_WITH_ALPHA = 4


def is_deep(image: Image.Image, content: bytes) -> bool:
    """Whether an open image, of the file ``content``, has values that 8 bits without a sign do not hold."""
    if image.mode in DEEP_MODES or (content.startswith(PNG) and content[PNG_DEPTH : PNG_DEPTH + 1] == b"\x10"):
        return True
    tags = TiffTags.of(image)
    return tags is not None and (tags.is_signed_byte or (tags.bits[0] == 16 and image.mode in ("RGB", "RGBA")))


def is_gray(content: bytes) -> bool:
    """Whether a PNG is of 16-bit gray with transparency, which Pillow calls RGBA."""
    return content.startswith(PNG) and content[PNG_DEPTH : PNG_COLOR_TYPE + 1] == bytes((16, GRAY_WITH_ALPHA))


def switch_to_low_bytes(image: Image.Image, content: bytes) -> bool:
    """Make an open image that is not loaded yet give the bytes that it would leave out; whether it leaves out any."""
    if image.mode not in ("RGB", "RGBA") or is_gray(content):
        return False
    tiles = image.tile  # type: ignore[attr-defined]  # of a file
    if len(tiles) > 1 and image.format != "TIFF":
        return False
    # Each with its own arguments: at the edges of a TIFF, tiles have another stride.
    switched = [_switched(tile.args) for tile in tiles]
    if None in switched:
        return False
    image.tile = [tile._replace(args=args) for tile, args in zip(tiles, switched, strict=True)]  # type: ignore[attr-defined]
    return True


def _switched(args: Any) -> Any:
    """The arguments of a decoder of 16-bit color with the other byte order; None for those of another decoder."""
    raw, *more = args if isinstance(args, tuple) else (args,)
    name, _, order = raw.rpartition(";16")
    if not name:
        return None
    swapped = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}[order]
    other = f"{name};16{swapped}"
    return (other, *more) if isinstance(args, tuple) else other


class DeepImage:
    """A loaded picture of more than 8 bits: its values a few rows at a time.

    ``low`` is a second copy, opened with ``other_bytes``, of a picture in 16-bit color.
    """

    def __init__(self, image: Image.Image, low: Image.Image | None, content: bytes) -> None:
        self.width, self.height = image.size
        self._image, self._low = image, low
        self._tags = TiffTags.of(image)
        self._is_gray = is_gray(content)
        self.bands = 1 if self._is_gray or image.mode in DEEP_MODES or image.mode == "L" else 3
        self.has_alpha = image.mode == "RGBA"

    @property
    def is_uint16(self) -> bool:
        """Whether the values are of 16 bits without a sign."""
        is_gray = self._image.mode.startswith("I;16") or self._image.format == "PPM"
        return self._low is not None or self._is_gray or is_gray

    @property
    def nodata(self) -> float | None:
        """The value that the file declares as "no data"."""
        return self._tags.nodata if self._tags else None

    def rows(self, top: int, bottom: int) -> Values:
        """Values [rows, width, bands], and the transparency as the last band if there is one."""
        box = (0, top, self.width, bottom)
        found: Any = np.asarray(self._image.crop(box))
        if self._is_gray:  # high and low byte of gray, then of transparency
            found = np.ascontiguousarray(found).view(">u2")
        elif self._low is not None:
            found = found.astype(np.uint16) << 8 | np.asarray(self._low.crop(box))
        elif self._tags and self._tags.is_signed_byte:
            found = found.view(np.int8)
        elif self._tags and self._tags.photometric == WHITE_IS_ZERO:
            found = 65535 - found if found.dtype.kind == "u" else -found
        values: Values = found[..., None] if found.ndim == 2 else found
        return values

    def chunks(self) -> range:
        """Where to begin reading some rows, a bounded number of pixels each time."""
        return range(0, self.height, self.step)

    @property
    def step(self) -> int:
        return max(1, ROWS_PIXELS // self.width)


def is_measured(values: Values, nodata: Sequence[float]) -> NDArray[np.bool_]:
    """Which values are measurements: finite, not one of ``nodata`` and not larger than any measurement."""
    found: NDArray[np.bool_] = np.isfinite(values) & (np.abs(values.astype(np.float64)) < HUGE)
    for each in nodata:
        found &= values != values.dtype.type(each) if _fits(values, each) else True
    return found


def _fits(values: Values, value: float) -> bool:
    if values.dtype.kind == "f":
        return True
    limits: Any = np.iinfo(str(values.dtype))
    return value == round(value) and limits.min <= value <= limits.max


def to_bytes(values: Values, limits: Range, nodata: Sequence[float]) -> NDArray[np.uint8]:
    """uint8 of the same shape: the lower limit and all below it, and what is no measurement, 0; the upper one 255."""
    low, high = limits
    with np.errstate(invalid="ignore", over="ignore"):
        shown = np.rint((values.astype(np.float64) - low) * (255 / (high - low)))
    return np.where(is_measured(values, nodata), shown, 0).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Sampled:
    """Some of the values of a picture: float64 [n], all measured; the lowest and highest; how many are not measured."""

    values: NDArray[np.float64]
    low: float
    high: float
    missing: int


def sample(image: DeepImage, count: int, bands: Sequence[int] | None) -> Sampled:
    """About ``count`` values of a picture, evenly over it: of ``bands``, or of all but the transparency."""
    nodata = [] if image.nodata is None else [image.nodata]
    colors = list(bands if bands is not None else range(image.bands))
    step = max(1, image.width * image.height * len(colors) // count)
    low, high, missing, parts = np.inf, -np.inf, 0, []
    for top in image.chunks():
        values = image.rows(top, min(top + image.step, image.height))[..., colors].ravel()
        measured = is_measured(values, nodata)
        missing += int(np.count_nonzero(~measured))
        values = values[measured]
        if len(values):
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            parts.append(values[::step].astype(np.float64))
    return Sampled(np.concatenate(parts) if parts else np.empty(0), low, high, missing)


def choose_range(sampled: Sequence[Sampled]) -> tuple[Range, tuple[float, ...]]:
    """The range of values that the pictures use, and the values that seem to mean "no data".

    Both are of the given pictures, those of the train split. A picture without contrast has a range of one.
    """
    values = np.concatenate([each.values for each in sampled])
    if not len(values):
        return (0, 1), ()
    low, high = min(each.low for each in sampled), max(each.high for each in sampled)
    sentinels = []
    while (found := _sentinel(values, low, high)) is not None:
        sentinels.append(found)
        values = values[values != found]
        low, high = float(values.min()), float(values.max())
    first, last = np.percentile(values, PERCENTILES)
    if high - low > SPREAD * (last - first) > 0:
        low, high = float(first), float(last)
    return (low, high if high > low else low + 1), tuple(sentinels)


def _sentinel(values: NDArray[np.float64], low: float, high: float) -> float | None:
    """The lowest or the highest value, if it stands alone."""
    different = np.unique(values)
    if len(different) < SENTINEL_VALUES:
        return None
    for value, others in ((different[0], different[1:]), (different[-1], different[:-1])):
        gap = min(abs(value - others[0]), abs(value - others[-1]))
        share = np.count_nonzero(values == value) / len(values)
        if value in (low, high) and gap > others[-1] - others[0] and share >= SENTINEL_SHARE:
            return float(value)
    return None
