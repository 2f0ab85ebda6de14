"""The printed summary of the predictions: a table of a few, or the number of each class."""

import unicodedata
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from darkroom.evaluation.metrics import accuracy_interval
from darkroom.prediction.bulk import BatchPredictions, rank
from darkroom.prediction.shards import NAMED, common_directory

# So many answers are shown one by one, or so many classes.
SHOWN = 20


class Summary:
    """Counts of the predictions of a model with ``classes``, and the first of them.

    If each picture is in a folder named like a class, at the same depth below the argument, the folder is taken as its
    class, so that answers can be right or wrong. If two depths are possible, the deeper one counts.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        self.images = self.inverted = self.unlike = self.perhaps_negative = self.unreadable = 0
        self.counts = np.zeros(len(classes), np.int64)
        self.first: list[tuple[str, dict[str, float], bool]] = []
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
                    self.errors.append(f"{picture.file}: {error}")
                continue
            self.counts[labels[row]] += 1
            self._compare(picture.inside, int(labels[row]))
            if len(self.first) < SHOWN:
                ranked = rank(self.classes, answers.probabilities[row])
                self.first.append((picture.file, ranked, bool(answers.unlike_training[row])))
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
        if self.correct is not None:
            low, high = accuracy_interval(self.correct, self.answered)
            console.print(
                f"{self.correct:,} of {self.answered:,} are the class that their folder is named as: accuracy "
                f"{self.correct / self.answered:.4f} (95 % interval {low:.4f} to {high:.4f})"
            )

    def _answers(self) -> Table:
        has_unlike = any(is_unlike for _, _, is_unlike in self.first)
        # Long names wrap: if they were cut, all rows would look the same.
        table = Table(Column("image", overflow="fold"), "label", "probability", "next")
        if has_unlike:
            table.add_column("remark")
        shared = len(common_directory([file for file, _, _ in self.first]))
        for file, ranked, is_unlike in self.first:
            (label, probability), *others = ranked.items()
            following = ", ".join(f"{name} {value:.1%}" for name, value in others[:2])
            remark = ["unlike the training images" if is_unlike else ""] if has_unlike else []
            table.add_row(file[shared:], label, f"{probability:.1%}", following, *remark)
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
