"""How often prediction sets hold the true label, by simulation.

Each case is a made-up model: its logits are normal, higher for a class by a margin that is different for every image,
and the labels are drawn from its own probabilities at the temperature 1. Validation and test splits are drawn, sets are
fitted on the one as `darkroom evaluate` does, and measured on the other.
`python -m tests.unit.evaluation.simulated_sets` prints the table of docs/prediction-sets.md.
"""

from dataclasses import dataclass

import numpy as np
import typer
from scipy.special import softmax

from darkroom.evaluation.prediction_sets import PredictionSets
from darkroom.evaluation.reference import calibrated, energies, fit_reference

COVERAGE = 0.95
SPLITS = 1_000
TEST_IMAGES = 1_000


@dataclass(frozen=True)
class Case:
    """A model of so many ``classes``, validated on so many ``images``.

    The images' margins are ``margin`` on average; the model's logits are divided by ``temperature``. The last class is
    ``rarity`` times as rare as the first.
    """

    classes: int
    images: int
    margin: float
    temperature: float = 1.0
    rarity: float = 1.0
    per_class: bool = False

    def draw(self, images: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Logits float64 [images, classes] and labels int64 [images]."""
        shares = np.geomspace(1, 1 / self.rarity, self.classes)
        preferred = generator.choice(self.classes, images, p=shares / shares.sum())
        logits = generator.normal(size=(images, self.classes))
        logits[np.arange(images), preferred] += generator.gamma(3, self.margin / 3, images)
        chances = softmax(logits, axis=1).cumsum(axis=1)
        labels = (generator.random((images, 1)) > chances).sum(axis=1)
        return logits / self.temperature, np.minimum(labels, self.classes - 1)

    def fit(self, generator: np.random.Generator, coverage: float = COVERAGE) -> tuple[PredictionSets, float]:
        """The sets that a validation split gives, and its temperature."""
        reference = fit_reference(*self.draw(self.images, generator))
        assert reference.label_scores
        names = [str(label) for label in range(self.classes)]
        return reference.label_scores.sets(coverage, names, per_class=self.per_class), reference.temperature


@dataclass(frozen=True)
class Found:
    """Means over the splits: ``covered`` float64 [classes + 1] is the coverage of each class, and then of all images.

    ``size`` is the mean number of labels, ``expected_size`` what the validation split said of it, ``hard`` the coverage
    of the fifth of the images with the lowest confidence, ``empty`` the share of empty sets.
    """

    covered: np.ndarray
    size: float
    expected_size: float
    hard: float
    empty: float
    accuracy: float


def simulate(case: Case, splits: int = SPLITS, seed: int = 0) -> Found:
    generator = np.random.default_rng(seed)
    images, covered = np.zeros((2, case.classes + 1))
    figures = np.zeros((splits, 5))
    for split in range(splits):
        sets, temperature = case.fit(generator)
        logits, labels = case.draw(TEST_IMAGES, generator)
        probabilities = calibrated(logits, temperature)
        members = sets.of(probabilities, energies(logits))
        is_covered = members[np.arange(TEST_IMAGES), labels]
        images[:-1] += np.bincount(labels, minlength=case.classes)
        covered[:-1] += np.bincount(labels[is_covered], minlength=case.classes)
        confidence, sizes = probabilities.max(axis=1), members.sum(axis=1)
        is_hard = confidence <= np.quantile(confidence, 0.2)
        right = probabilities.argmax(axis=1) == labels
        figures[split] = (
            sizes.mean(),
            sets.expected_size,
            is_covered[is_hard].mean(),
            (sizes == 0).mean(),
            right.mean(),
        )
    images[-1], covered[-1] = images.sum(), covered.sum()
    return Found(covered / images, *figures.mean(axis=0).tolist())


CASES = (
    Case(10, 200, 12),
    Case(10, 1_000, 25),
    Case(10, 1_000, 5),
    Case(10, 1_000, 12, temperature=0.5),
    Case(4, 2_000, 7, rarity=4),
    Case(4, 2_000, 7, rarity=4, per_class=True),
)


def main() -> None:
    columns = ("classes", "validation images", "accuracy", "coverage", "of classes", "of the hardest fifth", "labels")
    typer.echo(f"| {' | '.join(columns)} | empty |\n{'|---' * (len(columns) + 1)}|")
    for case in CASES:
        found = simulate(case)
        low, high = found.covered[:-1].min(), found.covered[:-1].max()
        unusual = "".join(
            f", {text}"
            for text, is_so in (
                (f"temperature {case.temperature:g}", case.temperature != 1),
                (f"one {case.rarity:g} times as rare", case.rarity != 1),
                ("fitted per class", case.per_class),
            )
            if is_so
        )
        typer.echo(
            f"| {case.classes}{unusual} | {case.images:,} | {found.accuracy:.1%} | {found.covered[-1]:.2%} | "
            f"{low:.1%} to {high:.1%} | {found.hard:.1%} | {found.size:.2f} ({found.expected_size:.2f}) | "
            f"{found.empty:.1%} |"
        )


if __name__ == "__main__":
    typer.run(main)
