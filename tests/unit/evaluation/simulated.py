"""How often the intervals of the metrics cover the true values, by simulation.

Each case is a population of 200,000 predictions of a made-up model, whose metrics are the true ones. Test splits are
drawn from it, and their intervals are compared with the true values. `python -m tests.unit.evaluation.simulated`
prints the table of docs/metrics.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import typer
from scipy.special import softmax

from darkroom.evaluation.intervals import (
    Interval,
    calibration_interval,
    class_intervals,
    macro_intervals,
    mean_interval,
    share_interval,
)
from darkroom.evaluation.metrics import expected_calibration_error

POPULATION = 200_000
FEATURES = 8
BINS = 15
# With fewer mistakes to expect, the coverage of Wilson's interval depends on the exact share: 87 to 100 %.
LEAST_MISTAKES = 5
DRAWS = 2_000


@dataclass(frozen=True)
class Case:
    """A model and its test split: so many ``images`` of so many ``classes``, answered rightly at this ``accuracy``.

    The model is calibrated at the ``temperature`` 1, too confident below and not confident enough above. Each class is
    rarer than the one before by the factor exp(-``decay``).
    """

    classes: int
    images: int
    accuracy: float
    temperature: float = 1.0
    decay: float = 0.0

    def __str__(self) -> str:
        calibration = {1.0: "calibrated"}.get(self.temperature, f"temperature {self.temperature:g}")
        rare = f", the rarest {self.shares[-1]:.1%}" if self.decay else ""
        return f"{self.images:,} images of {self.classes} classes{rare}, {self.accuracy:.1%}, {calibration}"

    @property
    def shares(self) -> np.ndarray:
        """How much of the population each class is [classes]."""
        shares = np.exp(-self.decay * np.arange(self.classes))
        return shares / shares.sum()

    def population(self, seed: int = 0) -> "Predictions":
        """Normal features around a mean for each class: their posterior is known, so the model can be calibrated."""
        generator = np.random.default_rng(seed)
        means = generator.normal(size=(self.classes, FEATURES))
        labels = generator.choice(self.classes, POPULATION, p=self.shares)
        noise = generator.normal(size=(POPULATION, FEATURES))

        def logits(distance: float, rows: slice) -> np.ndarray:
            features = distance * means[labels[rows]] + noise[rows]
            return features @ (distance * means).T - ((distance * means) ** 2).sum(axis=1) / 2 + np.log(self.shares)

        near, far = 0.1, 30.0
        some = slice(0, POPULATION // 10)
        for _ in range(20):
            middle = np.sqrt(near * far)
            is_better = (logits(middle, some).argmax(axis=1) == labels[some]).mean() > self.accuracy
            near, far = (near, middle) if is_better else (middle, far)
        return Predictions.of(softmax(logits(near, slice(None)) / self.temperature, axis=1), labels)


# Here all intervals cover as they promise.
CASES = (
    Case(3, 200, 0.95),
    Case(10, 1_000, 0.9),
    Case(10, 1_000, 0.9, temperature=0.6),
    Case(10, 1_000, 0.9, temperature=1.3),
    Case(100, 2_000, 0.9, temperature=0.9),
    Case(10, 10_000, 0.92),
    Case(10, 10_000, 0.92, temperature=0.9),
    Case(10, 10_000, 0.92, temperature=1.1),
    Case(10, 10_000, 0.995, temperature=0.6),
)
# Here some do not: few mistakes, or a class that is hardly ever predicted.
HARD_CASES = (
    Case(10, 360, 0.99),
    Case(10, 360, 0.97, temperature=0.6),
    Case(10, 360, 0.997, temperature=0.3),
    Case(5, 1_000, 0.97, decay=0.8),
)


@dataclass(frozen=True)
class Predictions:
    """The predictions for N images: labels and predictions int64 [N], confidence, loss float64 [N], top 3 bool [N]."""

    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    losses: np.ndarray
    in_top: np.ndarray
    classes: int

    @classmethod
    def of(cls, probabilities: np.ndarray, labels: np.ndarray) -> "Predictions":
        own = probabilities[np.arange(len(labels)), labels]
        in_top = (probabilities >= own[:, None]).sum(axis=1) <= 3
        losses = -np.log(np.maximum(own, np.finfo(np.float64).eps))
        highest = probabilities.max(axis=1)
        return cls(labels, probabilities.argmax(axis=1), highest, losses, in_top, probabilities.shape[1])

    def take(self, rows: np.ndarray) -> "Predictions":
        arrays = (self.labels, self.predicted, self.confidence, self.losses, self.in_top)
        return Predictions(*(each[rows] for each in arrays), self.classes)

    @property
    def correct(self) -> np.ndarray:
        return self.labels == self.predicted

    @property
    def confusion(self) -> np.ndarray:
        cells = np.bincount(self.labels * self.classes + self.predicted, minlength=self.classes**2)
        return cells.reshape(self.classes, self.classes)

    def values(self) -> dict[str, float]:
        scores = _scores(self.confusion)
        return {
            "accuracy": float(self.correct.mean()),
            **{f"{name}_macro": float(values.mean()) for name, values in scores.items()},
            "log_loss": float(self.losses.mean()),
            "top_3_accuracy": float(self.in_top.mean()),
            "calibration_error": expected_calibration_error(self.confidence, self.correct, BINS),
        }

    def intervals(self) -> dict[str, Interval]:
        shares = {"accuracy": self.correct.mean(), "top_3_accuracy": self.in_top.mean()}
        return {
            **{name: share_interval(share, len(self.labels)) for name, share in shares.items()},
            **{f"{name}_macro": interval for name, interval in macro_intervals(self.confusion).items()},
            "log_loss": mean_interval(self.losses),
            "calibration_error": calibration_interval(self.confidence, self.correct, BINS),
        }


def _scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of each class [classes]."""
    right, actual, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    return {"precision": right / predicted, "recall": right / actual, "f1": 2 * right / (actual + predicted)}


def coverage(case: Case, draws: int, seed: int = 1) -> Mapping[str, float]:
    """The share of ``draws`` whose interval holds the true value, of each metric.

    Those of the classes are the mean over the classes. Shares with fewer than five mistakes to expect are left out.
    """
    generator = np.random.default_rng(seed)
    population = case.population()
    true, of_classes = population.values(), _scores(population.confusion)
    enough = {name: case.images * (1 - true[name]) >= LEAST_MISTAKES for name in ("accuracy", "top_3_accuracy")}
    mistakes = _mistakes(population.confusion) * case.images / POPULATION >= LEAST_MISTAKES
    held = dict.fromkeys((*true, *of_classes), 0.0)
    for _ in range(draws):
        drawn = population.take(generator.integers(0, POPULATION, case.images))
        for name, (low, high) in drawn.intervals().items():
            held[name] += low <= true[name] <= high
        if mistakes.any():
            for name, (low, high) in class_intervals(drawn.confusion).items():
                held[name] += float(((low <= of_classes[name]) & (of_classes[name] <= high))[mistakes].mean())
    is_left_out = {name for name, is_enough in enough.items() if not is_enough} | (
        set() if mistakes.any() else set(of_classes)
    )
    return {name: count / draws for name, count in held.items() if name not in is_left_out}


def _mistakes(confusion: np.ndarray) -> np.ndarray:
    """Of the images of each class, or of those predicted as it, how many are mistakes: the smaller number [classes]."""
    right = confusion.diagonal()
    return np.minimum(confusion.sum(axis=0), confusion.sum(axis=1)) - right


def main() -> None:
    names = [f"{name}_macro" for name in ("precision", "recall", "f1")]
    names = ["accuracy", "top_3_accuracy", *names, "log_loss", "calibration_error", "precision", "recall", "f1"]
    typer.echo(f"| test split | {' | '.join(name.replace('_', ' ') for name in names)} |")
    typer.echo(f"|---{'|---' * len(names)}|")
    for case in (*CASES, *HARD_CASES):
        found = coverage(case, DRAWS)
        cells = [f"{100 * found[name]:.1f}" if name in found else "" for name in names]
        typer.echo(f"| {case} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
