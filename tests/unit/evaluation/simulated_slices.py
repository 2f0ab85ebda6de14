"""How often slices are named, by simulation: one that is worse than the rest, and any where none is.

A made-up model answers the images of a made-up test split. It is as good on all of them, but for one planted slice.
`python -m tests.unit.evaluation.simulated_slices` prints the table of docs/metrics.md.
"""

from dataclasses import dataclass, replace

import numpy as np
import typer

from darkroom.evaluation.slices import Slicing, find_slices, large_slices
from darkroom.evaluation.slicing import by_confusion, in_bins

PLANTED = "planted yes"
RUNS = 400


@dataclass(frozen=True)
class Case:
    """A test split of so many ``images`` of 10 classes, answered rightly at this ``accuracy``.

    The planted slice has ``planted`` images, on which the accuracy is lower by ``drop``.
    """

    images: int
    accuracy: float
    planted: int
    drop: float = 0.2
    classes: int = 10

    def named(self, runs: int, seed: int = 0) -> "Named":
        generator = np.random.default_rng(seed)
        slices = list(large_slices(self._attributes(generator)))
        planted = others = either = 0
        for _ in range(runs):
            correct, confusion = self._answers(generator)
            found = find_slices(correct, [*slices, *large_slices({"confusion": confusion})])
            named = {str(each) for each in found if each.is_named}
            planted += PLANTED in named
            others += bool(named - {PLANTED})
            either += bool(named)
        return Named(planted, others, either)

    def _answers(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Which images are right, and the confusion: each image has one other class that it might be taken for."""
        every = np.arange(self.images)
        correct = generator.random(self.images) < self.accuracy - self.drop * (every < self.planted)
        labels = generator.integers(0, self.classes, self.images)
        other = (labels + generator.integers(1, self.classes, self.images)) % self.classes
        probabilities = np.zeros((self.images, self.classes))
        probabilities[every, labels] = np.where(correct, 0.6, 0.3)
        probabilities[every, other] = np.where(correct, 0.3, 0.6)
        return correct, by_confusion(probabilities, labels, tuple(map(str, range(self.classes))))

    def _attributes(self, generator: np.random.Generator) -> Slicing:
        """What folders of images have: columns of texts and of numbers, groups, and what is measured of the pixels."""
        texts = {
            "camera": generator.choice(list("abcdef"), self.images, p=[0.4, 0.3, 0.15, 0.1, 0.04, 0.01]),
            "site": generator.choice(list("klmnopqrst"), self.images),
            "group": generator.integers(0, 50, self.images).astype(str),
            "planted": np.where(np.arange(self.images) < self.planted, "yes", "no"),
        }
        numbers = {name: in_bins(generator.normal(size=self.images)) for name in ("age", "size", "brightness", "ink")}
        return {**{name: values.astype(object) for name, values in texts.items()}, **numbers}


@dataclass(frozen=True)
class Named:
    """In how many runs the planted slice is named, in how many other ones, and in how many any at all."""

    planted: int
    others: int
    any: int


# By the power of the test, so many images of the slice suffice for 95 in 100.
CASES = (
    Case(500, 0.99, 60),
    Case(500, 0.95, 100),
    Case(500, 0.9, 140),
    Case(2_000, 0.95, 90),
    Case(2_000, 0.9, 130),
    Case(2_000, 0.8, 180),
    Case(10_000, 0.95, 90),
    Case(10_000, 0.8, 170),
)


def main() -> None:
    typer.echo("| test split | accuracy | planted slice | it is named | others are named beside it | without it |")
    typer.echo("|---|---|---|---|---|---|")
    for case in CASES:
        with_it, without = case.named(RUNS), replace(case, drop=0.0).named(RUNS)
        cells = [f"{100 * each / RUNS:.1f} %" for each in (with_it.planted, with_it.others, without.any)]
        typer.echo(f"| {case.images:,} images | {case.accuracy:.0%} | {case.planted} images | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
