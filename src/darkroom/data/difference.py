"""What was added to a dataset, removed from it, relabelled in it and moved between its splits."""

import csv
import gzip
import shutil
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from darkroom.data.cache import NAMES, SPLITS
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
        """Read the list of a cache, files.csv, or the one that is kept with a training. Raises DataError."""
        numbers: dict[str, int] = {}
        names, labels, splits, digests = [], [], [], []
        open_ = gzip.open if path.suffix == ".gz" else open
        try:
            with open_(path, "rt", newline="", encoding="utf-8") as opened:
                for row in csv.DictReader(opened):
                    names.append(row["file"] or f"{row['split']} image {row['row']}")
                    labels.append(numbers.setdefault(row["class"], len(numbers)))
                    splits.append(SPLITS.index(row["split"]))
                    digests.append(row["digest"])
        except (OSError, EOFError, KeyError, ValueError, csv.Error, zlib.error) as problem:
            raise DataError(f"{path}: not the list of a dataset's images ({problem})") from None
        contents = from_hex(digests)
        if contents is None:
            raise DataError(f"{path}: not the list of a dataset's images (a digest is missing)")
        classes = tuple(sorted(numbers))
        order = np.searchsorted(classes, list(numbers))
        return cls(classes, names, order[np.array(labels, np.int64)], np.array(splits, np.int64), contents)


@dataclass(frozen=True)
class Difference:
    """What lies between the datasets ``a`` and ``b``.

    ``rows_a`` and ``rows_b`` int64 [M] are the places of the images that both have, copies paired one to one.
    """

    a: Listing
    b: Listing
    rows_a: Ints
    rows_b: Ints

    @property
    def removed(self) -> Ints:
        """The places in ``a`` of the images that ``b`` lacks."""
        return np.setdiff1d(np.arange(len(self.a.labels)), self.rows_a)

    @property
    def added(self) -> Ints:
        """The places in ``b`` of the images that ``a`` lacks."""
        return np.setdiff1d(np.arange(len(self.b.labels)), self.rows_b)

    @property
    def relabelled(self) -> NDArray[np.bool_]:
        """Which of the images that both have are of another class in each [M]."""
        numbers = _numbers(self.a.classes, self.b.classes)
        return numbers[self.a.labels[self.rows_a]] != self.b.labels[self.rows_b]

    @property
    def moved(self) -> NDArray[np.bool_]:
        """Which of the images that both have are in another split in each [M]."""
        return self.a.splits[self.rows_a] != self.b.splits[self.rows_b]

    @property
    def comparable(self) -> int:
        """How many images are in both test splits, with the same class: on these their models can be compared."""
        in_test = self.b.splits[self.rows_b] == SPLITS.index("test")
        return int((in_test & ~self.moved & ~self.relabelled).sum())

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values, with some of the images of each kind."""
        before, after = set(self.a.classes), set(self.b.classes)
        relabelled, moved = np.flatnonzero(self.relabelled), np.flatnonzero(self.moved)
        return {
            "images": {"a": len(self.a.labels), "b": len(self.b.labels), "in_both": len(self.rows_b)},
            "classes": {"came": sorted(after - before), "went": sorted(before - after)},
            "added": _counted(_classes(self.b, self.added), _names(self.b, self.added)),
            "removed": _counted(_classes(self.a, self.removed), _names(self.a, self.removed)),
            "relabelled": self._changed(relabelled, _classes(self.a, self.rows_a), _classes(self.b, self.rows_b)),
            "moved": self._changed(moved, _splits(self.a, self.rows_a), _splits(self.b, self.rows_b)),
            "comparable_test_images": self.comparable,
        }

    def _changed(self, which: Ints, before: Sequence[str], after: Sequence[str]) -> dict[str, Any]:
        kinds = [f"{before[row]} → {after[row]}" for row in which.tolist()]
        return _counted(kinds, _names(self.b, self.rows_b[which]))


def difference(a: Listing, b: Listing) -> Difference:
    """Find the images that both have by their contents: another name or another folder makes no other image.

    Of several copies of an image those go together that have the same class and split in both.
    """
    numbers_a, numbers_b = number(a.digests, b.digests)
    labels_a = _numbers(a.classes, b.classes)[a.labels]
    return Difference(a, b, *match([numbers_a, labels_a, a.splits], [numbers_b, b.labels, b.splits]))


def changed_classes(before: Sequence[str], after: Sequence[str]) -> str:
    """Which classes came and which went, in words; empty if they are the same."""
    came, went = sorted(set(after) - set(before)), sorted(set(before) - set(after))
    return "; ".join(f"{_enumerated(names)} {verb}" for names, verb in ((came, "came"), (went, "went")) if names)


def keep_listing(cache: Path, report: Path) -> None:
    """Keep the list of a cache's images with a report: packed, and the same bytes for the same list."""
    with (
        (cache / NAMES).open("rb") as listed,
        (report / LISTING).open("wb") as written,
        gzip.GzipFile(filename="", mode="wb", fileobj=written, mtime=0) as packed,
    ):
        shutil.copyfileobj(listed, packed)


def _numbers(classes: Sequence[str], known: Sequence[str]) -> Ints:
    """For each of ``classes`` its place among those ``known``, a place beyond them if it is none of these."""
    places = {name: place for place, name in enumerate(known)}
    return np.array([places.get(name, len(known) + own) for own, name in enumerate(classes)], np.int64)


def _enumerated(names: Sequence[str]) -> str:
    more = f" and {len(names) - EXAMPLES:,} more" if len(names) > EXAMPLES else ""
    return f"{', '.join(names[:EXAMPLES])}{more}"


def _classes(listing: Listing, rows: Ints) -> list[str]:
    return [listing.classes[label] for label in listing.labels[rows].tolist()]


def _splits(listing: Listing, rows: Ints) -> list[str]:
    return [SPLITS[split] for split in listing.splits[rows].tolist()]


def _names(listing: Listing, rows: Ints) -> list[str]:
    return [listing.names[row] for row in rows[:EXAMPLES].tolist()]


def _counted(kinds: Sequence[str], examples: Sequence[str]) -> dict[str, Any]:
    """How many there are, how many of each kind, the most frequent first, and some examples."""
    return {"count": len(kinds), "kinds": dict(Counter(kinds).most_common()), "examples": list(examples)}
