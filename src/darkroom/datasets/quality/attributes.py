"""What is known of each image besides what it shows: of its file, of its picture as a whole, of the table of labels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from mimetypes import guess_type
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from darkroom.datasets.quality.measures import Floats, Measures
from darkroom.datasets.signatures import suffix
from darkroom.datasets.source import DecodedDataset

# A column of more different texts names the images, or people.
MAX_CATEGORIES = 20


@dataclass(frozen=True)
class Attribute:
    """A property of N images: ``values`` float64 [N]; numbers without an order if ``is_category``.

    One ``of`` the file, such as its size, has nothing to do with what the picture shows. One of the picture, such as
    its brightness, may: bags are brighter than sandals.
    """

    name: str
    of: Literal["file", "picture", "table"]
    values: Floats
    is_category: bool = False


def attributes_of(decoded: DecodedDataset, rows: NDArray[np.int64], measures: Measures) -> list[Attribute]:
    """The attributes of the images ``rows`` int64 [N] that are not the same for all of them."""
    found = [*_of_files(decoded, rows), *_of_pictures(measures), *_of_table(decoded.attributes, rows)]
    return [each for each in found if (each.values != each.values[0]).any()]


def _of_files(decoded: DecodedDataset, rows: NDArray[np.int64]) -> Iterator[Attribute]:
    if decoded.original_sizes is not None:
        heights, widths = np.maximum(decoded.original_sizes[rows], 1).T
        yield Attribute("size in pixels", "file", (heights * widths).astype(float))
        yield Attribute("aspect ratio", "file", widths / heights)
    if decoded.names:
        yield Attribute("type", "file", _numbered([_file_type(decoded.names[row]) for row in rows.tolist()]), True)


def _file_type(name: str) -> str:
    """Such as image/jpeg, whether the name ends with .jpg or .JPEG."""
    ending = suffix(name)
    return guess_type(f"image{ending}")[0] or ending


def _of_pictures(measures: Measures) -> Iterator[Attribute]:
    for name in ("brightness", "contrast", "sharpness"):
        yield Attribute(name, "picture", getattr(measures, name))


def _of_table(columns: Mapping[str, NDArray[np.object_]], rows: NDArray[np.int64]) -> Iterator[Attribute]:
    for name, texts in columns.items():
        chosen = texts[rows].tolist()
        if len(set(chosen)) <= MAX_CATEGORIES:
            yield Attribute(name, "table", _numbered(chosen), is_category=True)
        elif (numbers := _as_numbers(chosen)) is not None:
            yield Attribute(name, "table", numbers)


def _as_numbers(texts: list[Any]) -> Floats | None:
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _numbered(texts: list[str]) -> Floats:
    return np.unique(texts, return_inverse=True)[1].astype(float)
