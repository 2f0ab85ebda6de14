"""The range of values of the images of a folder: one for all of them, found in the train split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.config.settings import Preprocess
from darkroom.datasets.decoding import Headers
from darkroom.errors import DataError
from darkroom.images.depth import FULL, Range, Sampled, choose_range

# Values sampled from all images, so that a million images need no more memory than a thousand, and from each.
ALL_VALUES = 8_000_000
MOST_OF_EACH = 1024
LEAST_OF_EACH = 16


@dataclass(frozen=True)
class Depth:
    """``value_range`` is shown as black to white and ``nodata`` as black; ``notes`` say in lines what was found.

    ``has_bytes`` says that there are images of 8 bits among those of more.
    """

    value_range: Range | None = None
    nodata: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    has_bytes: bool = False


def values_of_each(images: int) -> int:
    """How many values to sample from each of ``images`` images."""
    return max(LEAST_OF_EACH, min(MOST_OF_EACH, ALL_VALUES // images))


def find_depth(
    names: Sequence[str],
    headers: Headers,
    sampled: Mapping[int, Sampled | None],
    train: NDArray[np.int64],
    settings: Preprocess,
) -> Depth:
    """The range of images of more than 8 bits, whose values were ``sampled`` by row, from those in the ``train`` rows.

    Without such images there is none, unless ``settings`` name one. Raises DataError if the range is not clear.
    """
    if not sampled:
        return Depth(settings.value_range)
    whole = {row: each for row, each in sampled.items() if each is not None}
    learned = [whole[row] for row in train.tolist() if row in whole]
    (low, high), nodata = choose_range(learned) if learned else (FULL, ())
    found = f"{low:,.6g} to {high:,.6g}"
    shallow = np.flatnonzero((headers["channels"] > 0) & ~headers["is_deep"])
    if settings.value_range:
        low, high = settings.value_range
    elif len(shallow):
        # Below half of it, what 16 bits call white is not what 8 bits call white.
        is_full = all(each.low >= 0 and each.high <= FULL[1] for each in whole.values()) and 2 * high > FULL[1]
        if not is_full:
            raise DataError(
                f"images of 8 bits and of more are mixed ({names[shallow[0]]} is of 8, {names[next(iter(sampled))]} "
                f"of more, with values {found}); set preprocess.value_range to what is black and white in those of more"
            )
        low, high = FULL
    share = f"{len(sampled):,} of {len(names):,} images have" if len(sampled) < len(names) else "the images have"
    more = f", and their values are {found}" if settings.value_range else "; preprocess.value_range sets others"
    notes = [f"{share} more than 8 bits a value: {low:,.6g} is shown as black, {high:,.6g} as white{more}"]
    missing = sum(each.missing > 0 for each in whole.values())
    notes += [f"{value:g} is far from all other values and taken for no data; it is shown as black" for value in nodata]
    if missing:
        one = "1 image has" if missing == 1 else f"{missing:,} images have"
        notes.append(f"{one} no-data or non-finite pixels; they are shown as black")
    return Depth((low, high), nodata, tuple(notes), has_bytes=len(shallow) > 0)
