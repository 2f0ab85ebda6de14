"""Divide the test split into slices by what its images have in common besides their class."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.data.batches import CPU, Split
from darkroom.data.cache import read_attributes, read_sizes
from darkroom.data.glyph_layout import FOREGROUND
from darkroom.data.memmap import CHUNK_BYTES
from darkroom.errors import ConfigError, did_you_mean, quoted
from darkroom.evaluation.metrics import Floats, Ints
from darkroom.evaluation.slices import Slicing

SIZE, BRIGHTNESS, INK, CONFUSION = "size", "brightness", "ink", "confusion"
BINS = 5
# More values than this are put into bins, if they are numbers.
MAX_NUMBERS = 10
# A column of more texts than this, such as one of ids, is left out unless it is asked for.
MAX_TEXTS = 100

Texts = NDArray[np.object_]
Pixels = NDArray[np.uint8]


def divide(directory: Path, test: Split, wanted: Sequence[str] | None = None) -> tuple[Slicing, dict[str, int]]:
    """The slices of the ``test`` images of the cache in ``directory``, by all attributes or by those ``wanted``.

    Attributes are the columns of the table of labels, and the size, brightness and ink of the images. (The confusion is
    none of them: it depends on the model.) The second result is how many different texts the columns have that were
    left out because of that. Raises ConfigError if an attribute is not known, CacheError if the cache is damaged.
    """
    columns = {_free(name): values for name, values in read_attributes(directory, "test").items()}
    sizes = read_sizes(directory, "test")
    _refuse_unknown(wanted or (), [*columns, SIZE, BRIGHTNESS, INK, CONFUSION], directory)
    if sizes is None and wanted and SIZE in wanted:
        raise ConfigError(
            f"evaluate.slices: the size of the images in {directory} is not known: they have no files, or an older "
            "version read them; take size out, or run `darkroom preprocess` again"
        )
    divided: dict[str, Texts] = {}
    left_out = {}
    for name, texts in columns.items():
        if wanted is None and (count := _too_many(texts)):
            left_out[name] = count
        elif wanted is None or name in wanted:
            divided[name] = by_column(texts)
    if sizes is not None and (wanted is None or SIZE in wanted):
        divided[SIZE] = by_size(sizes)
    of_pixels = [name for name in (BRIGHTNESS, INK) if wanted is None or name in wanted]
    if of_pixels:
        measured = dict(zip((BRIGHTNESS, INK), measure_pixels(_chunks(test)), strict=True))
        divided |= {name: in_bins(measured[name]) for name in of_pixels}
    return divided, left_out


def by_column(texts: Sequence[str]) -> Texts:
    """The cells of a column as they are, or in bins of numbers; an empty cell is in no slice."""
    values = np.array(texts, dtype=object)
    numbers = _numbers(texts)
    if numbers is None or len(np.unique(numbers[~np.isnan(numbers)])) <= MAX_NUMBERS:
        return values
    is_given = ~np.isnan(numbers)
    values[is_given] = in_bins(numbers[is_given])
    return values


def by_size(sizes: Ints) -> Texts:
    """The sizes int64 [N, 2] of files, such as 480x640; of many sizes, bins of their numbers of pixels."""
    if len(np.unique(sizes, axis=0)) > MAX_NUMBERS:
        return np.array([f"{text} pixels" for text in in_bins(sizes.prod(axis=1))], dtype=object)
    return np.array([f"{height}x{width}" for height, width in sizes.tolist()], dtype=object)


def by_confusion(probabilities: Floats, labels: Ints, classes: Sequence[str]) -> Texts:
    """The true class of each image and the class that the model is most likely to take for it, as "true / other".

    For an image that is answered wrongly that is the answer, for any other the second most likely class: a slice holds
    the images of one class that might be taken for another one, and its accuracy is the share that is not.
    ``probabilities`` [N, classes], ``labels`` int64 [N].
    """
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -1
    pairs, member = np.unique(labels * len(classes) + others.argmax(axis=1), return_inverse=True)
    names = [f"{classes[pair // len(classes)]} / {classes[pair % len(classes)]}" for pair in pairs.tolist()]
    return np.array(names, dtype=object)[member]


def in_bins(values: NDArray[np.number]) -> Texts:
    """Up to BINS bins of about as many ``values`` [N] each, as texts such as "0.1 to 0.25"; equal values share one."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))
    names = _distinct(edges)
    texts = [f"{low} to {high}" for low, high in pairwise(names)] or names
    return np.array(texts, dtype=object)[np.searchsorted(edges[1:-1], values, side="right")]


def measure_pixels(batches: Iterable[Pixels]) -> tuple[Floats, Floats]:
    """The brightness and the ink of images, uint8 [N, C, H, W] each batch: both from 0 to 1, float64 [N].

    The brightness is the mean of the pixels. The ink is the share of the pixels that are no background: those that
    differ from the median of the image's border by FOREGROUND of 255 at least, in any channel.
    """
    brightness, ink = [], []
    for images in batches:
        border = np.concatenate([images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1]], axis=-1)
        ground = np.median(border, axis=-1).astype(np.int16)[..., None, None]
        is_ink = (np.abs(images - ground) >= FOREGROUND).any(axis=1)
        brightness.append(images.mean(axis=(1, 2, 3), dtype=np.float64) / 255)
        ink.append(is_ink.mean(axis=(1, 2)))
    return np.concatenate(brightness), np.concatenate(ink)


def _chunks(split: Split) -> Iterator[Pixels]:
    step = max(1, CHUNK_BYTES // split.images[0].nbytes)
    for images, _ in split.in_order(step, CPU):
        yield images.numpy()


def _free(name: str) -> str:
    """A name for a column that no other attribute has."""
    return f"{name} (table)" if name in (SIZE, BRIGHTNESS, INK, CONFUSION) else name


def _refuse_unknown(wanted: Sequence[str], known: Sequence[str], directory: Path) -> None:
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f"evaluate.slices: no attribute {quoted(name)} of the images in {directory}; "
                f"{did_you_mean(name, known)}"
            )


def _too_many(texts: Sequence[str]) -> int:
    """How many different texts a column has, if that is too many and they are not numbers; else 0."""
    count = len(set(texts))
    return count if count > MAX_TEXTS and _numbers(texts) is None else 0


def _numbers(texts: Sequence[str]) -> Floats | None:
    """The numbers in a column, NaN for an empty cell; None if a cell holds something else."""
    try:
        numbers = np.array([text or "nan" for text in texts], dtype=np.float64)
    except ValueError:
        return None
    is_finite = np.isfinite(numbers) | np.array([not text for text in texts])
    return numbers if is_finite.all() else None


def _distinct(numbers: Floats) -> list[str]:
    """Different numbers as different texts, of three digits or as many as that takes."""
    for digits in range(3, 18):
        texts = [np.format_float_positional(each, digits, fractional=False, trim="-") for each in numbers.tolist()]
        if len(set(texts)) == len(texts):
            break
    return texts
