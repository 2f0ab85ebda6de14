"""The printed summary of the predictions: a table of a few, or the number of each class."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from darkroom.datasets.names import as_text
from darkroom.evaluation.metrics import accuracy_interval
from darkroom.evaluation.prediction_sets import ordered_labels
from darkroom.prediction.bulk import BatchPredictions, rank
from darkroom.prediction.shards import NAMED, common_directory

# So many answers are shown one by one, or so many classes.
SHOWN = 20
# Labels of a prediction set that are named in a row.
NAMED_LABELS = 4


class Shown(NamedTuple):
    """The answer for a picture in a row of the table; ``labels`` are its prediction set, None without one."""

    file: str
    ranked: dict[str, float]
    is_unlike: bool
    labels: list[str] | None


class Summary:
    """Counts of the predictions of a model with ``classes``, and the first of them.

    If each picture is in a folder named like a class, at the same depth below the argument, the folder is taken as its
    class, so that answers can be right or wrong. If two depths are possible, the deeper one counts.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        self.images = self.inverted = self.unlike = self.perhaps_negative = self.unreadable = 0
        self.counts = np.zeros(len(classes), np.int64)
        self.first: list[Shown] = []
        # Prediction sets without a label, with one and with several.
        self.sets = np.zeros(3, np.int64)
        self.errors: list[str] = []
        self._numbers = {unicodedata.normalize("NFC", name): number for number, name in enumerate(classes)}
        self._in_class: dict[int, int] = {}
        self._correct: dict[int, int] = {}

    @property
    def answered(self) -> int:
        return self.images - self.unreadable

    @property
    def correct(self) -> int | None:
        """How many predictions match the picture's folder; None if the folders are not classes."""
        depths = [depth for depth, count in self._in_class.items() if count == self.answered]
        return self._correct[max(depths)] if depths else None

    def add(self, answers: BatchPredictions) -> None:
        labels = np.nan_to_num(answers.probabilities).argmax(1)
        for row, (picture, error) in enumerate(zip(answers.pictures, answers.errors, strict=True)):
            self.images += 1
            if error is not None:
                self.unreadable += 1
                if len(self.errors) < NAMED:
                    self.errors.append(f"{as_text(picture.file)}: {error}")
                continue
            self.counts[labels[row]] += 1
            self._compare(picture.inside, int(labels[row]))
            if len(self.first) < SHOWN:
                probabilities, members = answers.probabilities[row], answers.members
                own = None if members is None else ordered_labels(members[row], probabilities, self.classes)
                ranked = rank(self.classes, probabilities)
                self.first.append(Shown(as_text(picture.file), ranked, bool(answers.unlike_training[row]), own))
        if answers.members is not None:
            is_read = np.array([error is None for error in answers.errors], bool)
            sizes = answers.members[is_read].sum(axis=1)
            self.sets += np.bincount(np.minimum(sizes, 2), minlength=3)
        self.inverted += int(answers.inverted.sum())
        self.unlike += int(answers.unlike_training.sum())
        self.perhaps_negative += int(answers.perhaps_negative.sum())

    def _compare(self, inside: str, label: int) -> None:
        for depth, folder in enumerate(unicodedata.normalize("NFC", inside).split("/")[:-1]):
            number = self._numbers.get(folder)
            if number is not None:
                self._in_class[depth] = self._in_class.get(depth, 0) + 1
                self._correct[depth] = self._correct.get(depth, 0) + (number == label)

    def show(self, console: Console, *, one_by_one: bool) -> None:
        """Print a table of the predictions if they are few and ``one_by_one`` is set, else of their counts."""
        console.print(self._answers() if one_by_one and self.answered <= SHOWN else self._counts())
        if self.sets.any():
            none, one, several = self.sets.tolist()
            console.print(f"prediction sets: {one:,} with one label, {several:,} with several, {none:,} without any")
        if self.correct is not None:
            low, high = accuracy_interval(self.correct, self.answered)
            console.print(
                f"{self.correct:,} of {self.answered:,} are the class that their folder is named as: accuracy "
                f"{self.correct / self.answered:.4f} (95 % interval {low:.4f} to {high:.4f}), too high if the "
                "model was trained on some of them; `darkroom results` has that of the test split"
            )

    def _answers(self) -> Table:
        has_unlike = any(each.is_unlike for each in self.first)
        has_sets = any(each.labels is not None for each in self.first)
        # Long names wrap: if they were cut, all rows would look the same.
        table = Table(Column("image", overflow="fold"), "label", "probability", "next")
        if has_sets:
            table.add_column("prediction set")
        if has_unlike:
            table.add_column("remark")
        shared = len(common_directory([each.file for each in self.first]))
        for file, ranked, is_unlike, labels in self.first:
            (label, probability), *others = ranked.items()
            following = ", ".join(f"{name} {value:.1%}" for name, value in others[:2])
            remark = ["unlike the training images" if is_unlike else ""] if has_unlike else []
            labeled = [_named(labels)] if labels is not None else []
            table.add_row(file[shared:], label, f"{probability:.1%}", following, *labeled, *remark)
        return table

    def _counts(self) -> Table:
        table = Table("class", Column("images", justify="right"), Column("share", justify="right"))
        common = [number for number in np.argsort(-self.counts, kind="stable") if self.counts[number]]
        for number in common[:SHOWN]:
            count = int(self.counts[number])
            table.add_row(self.classes[number], f"{count:,}", f"{count / self.answered:.1%}")
        if len(common) > SHOWN:
            count = int(self.counts[common[SHOWN:]].sum())
            table.add_row(f"{len(common) - SHOWN} other classes", f"{count:,}", f"{count / self.answered:.1%}")
        return table


def _named(labels: Sequence[str]) -> str:
    """The labels of a prediction set in a few words."""
    more = len(labels) - NAMED_LABELS
    return ", ".join(labels[:NAMED_LABELS]) + (f" and {more:,} more" if more > 0 else "") if labels else "none"
