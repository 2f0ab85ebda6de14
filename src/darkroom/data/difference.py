"""The difference between two datasets: images added, removed, relabeled, or moved between splits."""

import csv
import gzip
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from darkroom.data.cache import COLUMNS, NAMES, SPLITS
from darkroom.data.digests import Digests, from_hex, match, number
from darkroom.errors import DataError

# The list of a dataset's images, as it is kept with each training.
LISTING = "files.csv.gz"
EXAMPLES = 5
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Listing:
    """The N images of a preprocessed dataset.

    ``labels`` int64 [N] index ``classes``, ``splits`` int64 [N] index SPLITS; ``digests`` uint8 [N, 16] are those of
    the images' contents; ``names`` [N] are their files, or where they are in their split.
    """

    classes: tuple[str, ...]
    names: Sequence[str]
    labels: Ints
    splits: Ints
    digests: Digests

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the list of a cache, files.csv, or the list stored with a training. Raises DataError."""
        numbers: dict[str, int] = {}
        names, labels, splits, digests = [], [], [], []
        open_ = gzip.open if path.suffix == ".gz" else open
        try:
            with open_(path, "rt", newline="", encoding="utf-8") as opened:
                table = csv.reader(opened)
                # A table's further columns follow these.
                if tuple(header := next(table, ()))[: len(COLUMNS)] != COLUMNS:
                    raise ValueError(f"columns {', '.join(header)}")
                for split, row, file, name, digest, *_ in table:
                    names.append(file or f"{split} image {row}")
                    labels.append(numbers.setdefault(name, len(numbers)))
                    splits.append(SPLITS.index(split))
                    digests.append(digest)
        except (OSError, EOFError, ValueError, csv.Error, zlib.error) as problem:
            raise DataError(f"{path}: not the list of a dataset's images ({problem})") from None
        contents = from_hex(digests)
        if contents is None:
            raise DataError(f"{path}: not the list of a dataset's images (a digest is missing)")
        classes = tuple(sorted(numbers))
        order = np.searchsorted(classes, list(numbers))
        return cls(classes, names, order[np.array(labels, np.int64)], np.array(splits, np.int64), contents)


@dataclass(frozen=True)
class Difference:
    """The difference between the datasets ``a`` and ``b``.

    ``rows_a`` and ``rows_b`` int64 [M] are the positions of the images that both have, copies paired one to one.
    """

    a: Listing
    b: Listing
    rows_a: Ints
    rows_b: Ints

    @property
    def removed(self) -> Ints:
        """The positions in ``a`` of the images that ``b`` lacks."""
        return np.setdiff1d(np.arange(len(self.a.labels)), self.rows_a)

    @property
    def added(self) -> Ints:
        """The positions in ``b`` of the images that ``a`` lacks."""
        return np.setdiff1d(np.arange(len(self.b.labels)), self.rows_b)

    @property
    def relabeled(self) -> NDArray[np.bool_]:
        """Which of the images in both datasets have different classes: bool [M]."""
        numbers = _numbers(self.a.classes, self.b.classes)
        return np.not_equal(numbers[self.a.labels[self.rows_a]], self.b.labels[self.rows_b])

    @property
    def moved(self) -> NDArray[np.bool_]:
        """Which of the images in both datasets are in different splits: bool [M]."""
        return np.not_equal(self.a.splits[self.rows_a], self.b.splits[self.rows_b])

    @property
    def comparable(self) -> int:
        """The number of images that are in both test splits with the same class: models can be compared on these."""
        in_test = self.b.splits[self.rows_b] == SPLITS.index("test")
        return int((in_test & ~self.moved & ~self.relabeled).sum())

    def as_json(self) -> dict[str, Any]:
        """The counts as JSON values, with examples of each kind."""
        before, after = set(self.a.classes), set(self.b.classes)
        return {
            "images": {"a": len(self.a.labels), "b": len(self.b.labels), "in_both": len(self.rows_b)},
            "classes": {"came": sorted(after - before), "went": sorted(before - after)},
            "added": _counted(self.b, self.added, _classes),
            "removed": _counted(self.a, self.removed, _classes),
            "relabeled": self._changed(np.flatnonzero(self.relabeled), _classes),
            "moved": self._changed(np.flatnonzero(self.moved), _splits),
            "comparable_test_images": self.comparable,
        }

    def _changed(self, which: Ints, kinds: Callable[[Listing, Ints], list[str]]) -> dict[str, Any]:
        rows_a, rows_b = self.rows_a[which], self.rows_b[which]
        pairs = zip(kinds(self.a, rows_a), kinds(self.b, rows_b), strict=True)
        return _counted(self.b, rows_b, lambda *_: [f"{before} → {after}" for before, after in pairs])


def difference(a: Listing, b: Listing) -> Difference:
    """Compare two datasets by the contents of their images: a renamed or moved file is still the same image.

    Copies of an image are paired first with copies of the same class and split.
    """
    numbers_a, numbers_b = number(a.digests, b.digests)
    labels_a = _numbers(a.classes, b.classes)[a.labels]
    return Difference(a, b, *match([numbers_a, labels_a, a.splits], [numbers_b, b.labels, b.splits]))


def changed_classes(before: Sequence[str], after: Sequence[str]) -> str:
    """The classes that were added and removed, in words; empty if they are the same."""
    came, went = sorted(set(after) - set(before)), sorted(set(before) - set(after))
    return "; ".join(f"{_enumerated(names)} {verb}" for names, verb in ((came, "came"), (went, "went")) if names)


def keep_listing(cache: Path, report: Path) -> None:
    """Write the list of a cache's images to a report: compressed, and the same bytes for the same list."""
    with (
        (cache / NAMES).open("rb") as listed,
        (report / LISTING).open("wb") as written,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=written, mtime=0) as packed,
    ):
        shutil.copyfileobj(listed, packed)


def _numbers(classes: Sequence[str], known: Sequence[str]) -> Ints:
    """The index of each of ``classes`` in ``known``, or an index beyond the last for an unknown class."""
    places = {name: place for place, name in enumerate(known)}
    return np.array([places.get(name, len(known) + own) for own, name in enumerate(classes)], np.int64)


def _enumerated(names: Sequence[str]) -> str:
    more = f" and {len(names) - EXAMPLES:,} more" if len(names) > EXAMPLES else ""
    return f"{', '.join(names[:EXAMPLES])}{more}"


def _classes(listing: Listing, rows: Ints) -> list[str]:
    return [listing.classes[label] for label in listing.labels[rows].tolist()]


def _splits(listing: Listing, rows: Ints) -> list[str]:
    return [SPLITS[split] for split in listing.splits[rows].tolist()]


def _counted(listing: Listing, rows: Ints, kinds: Callable[[Listing, Ints], list[str]]) -> dict[str, Any]:
    """The number of images, the number of each kind (the most frequent first), and some examples."""
    return {
        "count": len(rows),
        "kinds": dict(Counter(kinds(listing, rows)).most_common()),
        "examples": [listing.names[row] for row in rows[:EXAMPLES].tolist()],
    }
