"""The accuracy of a model on corrupted test images, as it is written to reports/evaluate/robustness.json."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, with_config

from darkroom.errors import ModelError
from darkroom.evaluation.intervals import mean_share_interval
from darkroom.utils.files import EXACT, read_as, write_json

ROBUSTNESS = "robustness.json"
MADE_BY = "darkroom evaluate"
FORMAT_VERSION = 1
HEADER = ("corruption", "strength", "parameter", "unit", "accuracy", "accuracy_low", "accuracy_high")

Share = Annotated[float, Field(ge=0, le=1)]


@with_config(EXACT)
@dataclass(frozen=True)
class Accuracy:
    """An accuracy and its 95 % interval."""

    accuracy: Share
    accuracy_low: Share
    accuracy_high: Share

    @classmethod
    def of(cls, right: NDArray[np.bool_]) -> Self:
        """The accuracy over ``right`` bool [..., N]: the same N images, as often as the other dimensions say."""
        shares = right.reshape(-1, right.shape[-1]).mean(axis=0)
        return cls(float(shares.mean()), *mean_share_interval(shares))


@with_config(EXACT)
@dataclass(frozen=True)
class CorruptionAccuracy:
    """The accuracy on images with one corruption: over all strengths, and in each of them.

    ``parameters`` are those of the strengths, from the weakest on; ``unit`` says what they are.
    """

    corruption: str
    unit: str
    parameters: tuple[float, ...]
    overall: Accuracy
    strengths: tuple[Accuracy, ...]

    @classmethod
    def of(cls, corruption: str, unit: str, parameters: Sequence[float], right: NDArray[np.bool_]) -> Self:
        """From which images are ``right`` in each strength, bool [strengths, N]."""
        strengths = tuple(map(Accuracy.of, right))
        return cls(corruption, unit, tuple(map(float, parameters)), Accuracy.of(right), strengths)


@with_config(EXACT)
@dataclass(frozen=True)
class Robustness:
    """The accuracy over all corruptions and strengths, that on the images as they are, and that of each corruption."""

    images: int
    clean: Accuracy
    corrupted: Accuracy
    corruptions: tuple[CorruptionAccuracy, ...]
    format_version: int = FORMAT_VERSION

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file that ``write`` wrote. Raises ModelError."""
        return read_as(cls, path, FORMAT_VERSION, error=ModelError, made_by=MADE_BY)

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    def __str__(self) -> str:
        found, worst = self.corrupted, self.worst
        return (
            f"accuracy on corrupted images {found.accuracy:.4f} (95 % interval {found.accuracy_low:.4f} to "
            f"{found.accuracy_high:.4f}), lowest with {worst.corruption}, {worst.overall.accuracy:.4f}"
        )

    @property
    def worst(self) -> CorruptionAccuracy:
        """The corruption with the lowest accuracy."""
        return min(self.corruptions, key=lambda each: each.overall.accuracy)

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the evaluation, each with its interval.

        The lowest accuracy of several corruptions is known less well than that of one that was named before: its
        interval reaches from the lowest to the lowest end of all of them.
        """
        overall = [each.overall for each in self.corruptions]
        return {
            "robust_accuracy": self.corrupted.accuracy,
            "robust_accuracy_low": self.corrupted.accuracy_low,
            "robust_accuracy_high": self.corrupted.accuracy_high,
            "worst_corruption_accuracy": self.worst.overall.accuracy,
            "worst_corruption_accuracy_low": min(each.accuracy_low for each in overall),
            "worst_corruption_accuracy_high": min(each.accuracy_high for each in overall),
        }

    def rows(self) -> Iterator[tuple[object, ...]]:
        """The table, with the columns HEADER: a row for each corruption and strength."""
        for each in self.corruptions:
            for strength, (parameter, found) in enumerate(zip(each.parameters, each.strengths, strict=True), 1):
                yield each.corruption, strength, parameter, each.unit, *asdict(found).values()
