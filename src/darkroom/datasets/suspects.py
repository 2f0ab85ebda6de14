"""Find images that are useless for training, or that make a model look better than it is: only the clear cases."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.data.cache import SPLITS
from darkroom.datasets.scan import MAX_LEVELS, Scan
from darkroom.errors import counted

# What 12 bits leave of 256 gray levels when they are taken for 16: hardly anything to see, though it can be learned.
FEW_LEVELS = 16
MOST = 0.5
MAX_LISTED = 200
MAX_NAMED = 3


@dataclass(frozen=True)
class Suspect:
    """One suspicious finding, as in report.json.

    ``stops`` says that training would be meaningless; ``images`` counts the images concerned and ``share`` is their
    share of the images checked; ``examples`` are up to 200 of them, by file or, without files, by row.
    """

    kind: str
    stops: bool
    text: str
    images: int
    share: float
    examples: list[str]


def find_suspects(
    seen: Scan, labels: NDArray[np.int64], classes: Sequence[str], names: Sequence[str] = ()
) -> list[Suspect]:
    """The suspicious findings about the scanned images, in the order train, val, test; errors come first.

    ``labels`` int64 [rows] and ``names``, if they have any, are those of all rows.
    """
    look = _SuspectChecks(seen, labels[seen.rows], classes, names)
    if look.spans.max() == 0:
        return [look.no_contrast()]  # of which all else follows
    found = [
        *look.few_levels(),
        *look.flat_images(),
        *look.copies(),
        *look.dead_classes(),
        *look.contradictions(),
        *look.leaks(),
    ]
    return sorted(found, key=lambda suspect: not suspect.stops)


class _SuspectChecks:
    """The images that were looked at, and one method for each kind of suspicion."""

    def __init__(self, seen: Scan, labels: NDArray[np.int64], classes: Sequence[str], names: Sequence[str]) -> None:
        self.seen, self.labels, self.classes, self.names = seen, labels, classes, names
        self.in_train = seen.splits == 0
        self.train = int(self.in_train.sum())
        self.is_flat: NDArray[np.bool_] = (seen.lows == seen.highs).all(axis=1)
        # Of each channel over the whole train split.
        self.lows = seen.lows[self.in_train].min(axis=0)
        self.highs = seen.highs[self.in_train].max(axis=0)
        self.spans = self.highs.astype(int) - self.lows

    def no_contrast(self) -> Suspect:
        value = ", ".join(map(str, self.lows.tolist()))
        text = f"the train split has no contrast: every pixel of its {counted(self.train, 'image')} is {value}"
        return self._suspect("no contrast", self.in_train, self.train, text, stops=True)

    def few_levels(self) -> list[Suspect]:
        low, high = int(self.lows.min()), int(self.highs.max())
        if self.spans.max() < FEW_LEVELS:
            text = (
                f"the train split has almost no contrast: its values are {low} to {high}, of 0 to 255; "
                "pictures of more than 8 bits are shown in full with preprocess.value_range"
            )
            return [self._suspect("almost no contrast", self.in_train, self.train, text)]
        if len(self.seen.levels) <= MAX_LEVELS:
            levels = " and ".join(map(str, self.seen.levels))
            text = (
                f"the train split has 2 of 256 values only, {levels}: right for drawings in black and white, other "
                "pictures were clipped"
            )
            return [self._suspect("two levels", self.in_train, self.train, text)]
        return []

    def flat_images(self) -> list[Suspect]:
        count = int(self.is_flat.sum())
        if not count:
            return []
        by_class = np.bincount(self.labels[self.is_flat], minlength=len(self.classes))
        common = np.argsort(-by_class, kind="stable")[:MAX_NAMED]
        classes = ", ".join(
            f"{by_class[label]:,} of class {self.classes[label]!r}" for label in common if by_class[label]
        )
        text = f"{_part(count, len(self.labels))} {_be(count)} of one color ({classes}{_more(by_class > 0)})"
        stops = self.is_flat[self.in_train].mean() > MOST
        return [self._suspect("one color", self.is_flat, len(self.labels), text, stops=bool(stops), name=True)]

    def copies(self) -> list[Suspect]:
        originals = self.seen.originals[self.in_train]
        counts = np.bincount(originals)
        most = int(counts.argmax())
        if counts[most] > max(1, MOST * self.train):
            text = f"{_part(int(counts[most]), self.train, 'train')} are one and the same picture"
            same = self.in_train & (self.seen.originals == most)
            return [self._suspect("one picture", same, self.train, text, stops=True, name=True)]
        is_copy = self.in_train & (self.seen.originals != np.arange(len(self.labels)))
        surplus = int(is_copy.sum())
        if surplus <= MOST * self.train:
            return []
        text = f"{_part(surplus, self.train, 'train')} are copies of others"
        return [self._suspect("copies", is_copy, self.train, text, name=True)]

    def dead_classes(self) -> list[Suspect]:
        labels, originals = self.labels[self.in_train], self.seen.originals[self.in_train]
        counts = np.bincount(labels, minlength=len(self.classes))
        flat = np.bincount(labels[self.is_flat[self.in_train]], minlength=len(self.classes))
        pictures = np.unique(labels * len(self.labels) + originals) // len(self.labels)
        distinct = np.bincount(pictures, minlength=len(self.classes))
        is_flat = (counts > 0) & (flat == counts)
        is_single = (counts > 1) & (distinct == 1) & ~is_flat
        found = []
        for kind, chosen, what in (
            ("class of one color", is_flat, "nothing but images of one color"),
            ("class of one picture", is_single, "nothing but copies of one picture"),
        ):
            if chosen.any():
                named = ", ".join(
                    f"{self.classes[label]!r} ({counted(counts[label], 'image')})"
                    for label in np.flatnonzero(chosen)[:MAX_NAMED]
                )
                number = int(chosen.sum())
                has = "has" if number == 1 else "have"
                text = f"{number:,} of {len(self.classes):,} classes {has} {what} in train: {named}{_more(chosen)}"
                members = self.in_train & chosen[self.labels]
                found.append(self._suspect(kind, members, self.train, text, stops=True, name=True))
        return found

    def contradictions(self) -> list[Suspect]:
        originals = self.seen.originals
        is_other = self.labels != self.labels[originals]
        groups = np.unique(originals[is_other])
        if not len(groups):
            return []
        chosen = np.isin(originals, groups)
        # Train comes first: the original of a train image lies there too.
        in_train = np.isin(originals[self.in_train], originals[is_other & self.in_train]).mean()
        text = (
            f"{_part(int(chosen.sum()), len(self.labels))} are identical to an image of another class, in "
            f"{counted(len(groups), 'group')}"
        )
        # The first group's images, then the others'.
        places = np.flatnonzero(chosen)
        ordered = places[np.argsort(originals[places], kind="stable")]
        stops = bool(in_train > MOST)
        return [self._suspect("contradicting labels", ordered, len(self.labels), text, stops=stops, name=True)]

    def leaks(self) -> list[Suspect]:
        # Where a picture was first, in the order of the splits.
        first = self.seen.splits[self.seen.originals]
        found = []
        for split, earlier in ((2, 0), (1, 0), (2, 1)):
            members = self.seen.splits == split
            copied = members & (first == earlier)
            count, total = int(copied.sum()), int(members.sum())
            if not count:
                continue
            place = SPLITS[earlier] if earlier == 0 else f"{SPLITS[earlier]}, but not in {SPLITS[0]}"
            text = f"{_part(count, total, SPLITS[split])} {_be(count)} also in {place}"
            stops = (split, earlier) == (2, 0) and count > MOST * total
            kind = f"{SPLITS[split]} in {SPLITS[earlier]}"
            found.append(self._suspect(kind, copied, total, text, stops=stops, name=True))
        return found

    def _suspect(
        self,
        kind: str,
        chosen: NDArray[np.bool_] | NDArray[np.int64],
        total: int,
        text: str,
        *,
        stops: bool = False,
        name: bool = False,
    ) -> Suspect:
        """``chosen`` are the images concerned, marked, or as positions in the order of the examples."""
        positions = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        rows = self.seen.rows[positions[:MAX_LISTED]].tolist()
        examples = [self.names[row] if self.names else f"image {row}" for row in rows]
        if name:
            text += f", such as {', '.join(examples[:MAX_NAMED])}"
        return Suspect(kind, stops, text, len(positions), len(positions) / total, examples)


def _part(count: int, total: int, which: str = "") -> str:
    return f"{count:,} of {counted(total, f'{which} image'.strip())} ({100 * count / total:.3g} %)"


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _more(chosen: NDArray[np.bool_]) -> str:
    more = int(chosen.sum()) - MAX_NAMED
    return f" and {more:,} more" if more > 0 else ""
