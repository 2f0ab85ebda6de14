"""A comparison for people: a sentence, tables, and Markdown for a comment on a pull request."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from darkroom.evaluation.comparison import Comparison
from darkroom.evaluation.latency import LARGE_BATCH, Latency
from darkroom.evaluation.pairing import Pairing
from darkroom.evaluation.predictions import SplitPredictions
from darkroom.utils.markdown import plain, table
from darkroom.utils.units import MEGABYTE

# Of many classes those with the largest changes are shown; comparison.json holds them all.
MAX_CLASSES = 10
Row = Sequence[str]


@dataclass(frozen=True)
class Side:
    """One of the two models: its name and run, the size of its file, and how fast it is on this machine."""

    name: str
    run_id: str
    size_bytes: int
    latency: Latency
    images_per_second: float


@dataclass(frozen=True)
class ComparisonReport:
    """A comparison with the costs of both models.

    ``alpha`` is the risk of calling a model better or worse that is not, ``bins`` those of the calibration error;
    ``checks`` are the gate's, each as rule, value, requirement and verdict, none if it was not asked. ``shared`` is the
    pairing of models of different datasets.
    """

    comparison: Comparison
    a: Side
    b: Side
    alpha: float
    bins: int
    checks: Sequence[Row] = ()
    shared: Pairing | None = None

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % bootstrap interval of the difference in accuracy."""
        return self.comparison.difference_interval()

    @property
    def headline(self) -> str:
        """The result, in a sentence."""
        a, b, found = self.a.name, self.b.name, self.comparison
        images = f"{len(found.a.labels):,} test images{' that both datasets share' if self.shared else ''}"
        shown = (
            f"{b} classifies {_percent(found.b)} of the {images} correctly, {a} "
            f"{_percent(found.a)} ({_points(found.difference)} points, 95 % interval "
            f"{_points(self.interval[0])} to {_points(self.interval[1])})"
        )
        if found.p_better < self.alpha:
            chance = f"equally good models show such a gain with probability {found.p_better:.2g}"
            return f"{_capital(b)} is better: {shown}; {chance}."
        if found.p_worse < self.alpha:
            chance = f"equally good models show such a loss with probability {found.p_worse:.2g}"
            return f"{_capital(b)} is worse: {shown}; {chance}."
        return f"These images do not show which model is better: {shown}."

    @property
    def metrics_table(self) -> list[Row]:
        """A row for each metric: its name, both values and the change."""
        found = self.comparison
        both = found.as_json(alpha=self.alpha, bins=self.bins)["accuracy"].values()
        first, second = found.calibration_errors(self.bins)
        sides = (self.a, self.b)
        intervals = [f"{low:.4f} to {high:.4f}" for low, high in ((each["low"], each["high"]) for each in both)]
        low, high = self.interval
        return [
            ("accuracy", *(f"{each['value']:.4f}" for each in both), f"{found.difference:+.4f}"),
            ("95 % interval", *intervals, f"{low:+.4f} to {high:+.4f}"),
            ("calibration error", f"{first:.4f}", f"{second:.4f}", f"{second - first:+.4f}"),
            _ratio("size, MB", [side.size_bytes / MEGABYTE for side in sides], "{:.3f}"),
            _ratio("latency p50, ms", [side.latency.p50_ms for side in sides], "{:.3f}"),
            _ratio("latency p95, ms", [side.latency.p95_ms for side in sides], "{:.3f}"),
            _ratio(f"images/s, batch {LARGE_BATCH}", [side.images_per_second for side in sides], "{:,.0f}"),
        ]

    @property
    def table(self) -> list[Row]:
        """The images by which model is right, a row for each of the first model's outcomes."""
        return [
            (f"{self.a.name} {what}", *(f"{count:,}" for count in counts))
            for what, counts in zip(("right", "wrong"), self.comparison.table, strict=True)
        ]

    @property
    def classes(self) -> list[Row]:
        """A row for each class with a change of recall, the largest first: its name, both recalls and the change."""
        before, after = self.comparison.recalls
        change = np.nan_to_num(after - before)  # none where there are no test images
        order = [number for number in np.argsort(-np.abs(change), kind="stable") if change[number]]
        names = self.comparison.a.classes
        return [
            (names[number], f"{before[number]:.4f}", f"{after[number]:.4f}", f"{change[number]:+.4f}")
            for number in order
        ]

    @property
    def tests(self) -> str:
        found = self.comparison
        return (
            f"Exact McNemar p: {found.p_better:.3g} one-sided ({self.b.name} better), {found.p_different:.3g} "
            f"two-sided; the true difference is at least {_points(found.at_worst(self.alpha))} points, at a risk of "
            f"{self.alpha:g} (Clopper-Pearson)."
        )

    @property
    def conditions(self) -> str:
        threads = self.a.latency.threads
        return f"Latency is that of one image on the CPU, in turn, with {threads} thread{'s' if threads > 1 else ''}."

    @property
    def scope(self) -> str:
        """For models of different datasets, which images were left out and what that means; else empty."""
        if not self.shared:
            return ""
        return (
            f"The models are of different data: {self.shared.found}. Only these count, as the others may be images "
            "that one of the models has learned from; what was added or taken away is not compared."
        )

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values, the rows of disagreement among them."""
        found = self.comparison
        first, second = found.confusions
        return {
            "headline": self.headline,
            "a": asdict(self.a),
            "b": asdict(self.b),
            **found.as_json(alpha=self.alpha, bins=self.bins),
            "pairing": self.shared.as_json() if self.shared else None,
            "difference_interval": list(self.interval),
            "classes": list(found.a.classes),
            "confusion": {"a": first.tolist(), "b": second.tolist(), "difference": (second - first).tolist()},
            "disagreement": [dict(zip(DISAGREEMENT, row, strict=True)) for row in disagreement_rows(found)],
        }

    def markdown(self) -> str:
        """The report for a comment on a pull request."""
        changed = self.classes
        parts = [
            f"## {_capital(self.b.name)} compared with {self.a.name}",
            f"**{self.headline}**",
            _table(("", self.a.name, self.b.name, "change"), self.metrics_table),
            _table(("test images", f"{self.b.name} right", f"{self.b.name} wrong"), self.table),
            f"{self.tests} {self.conditions}",
            *([self.scope] if self.scope else []),
        ]
        if changed:
            parts += ["### Recall of each class that changed"]
            parts += [_table(("class", self.a.name, self.b.name, "change"), changed[:MAX_CLASSES])]
        if len(changed) > MAX_CLASSES:
            parts += [f"And {len(changed) - MAX_CLASSES} more with smaller changes, in comparison.json."]
        if self.checks:
            parts += ["### Gate", _table(("rule", "found", "required", "verdict"), self.checks, "---")]
        return "\n\n".join(parts) + "\n"


DISAGREEMENT = ("image", "actual", "a", "a_confidence", "b", "b_confidence", "right")


def disagreement_rows(found: Comparison) -> list[tuple[str, str, str, float, str, float, str]]:
    """For each image with different answers: its name and class, the answers of both, and whose is right."""
    classes, a, b = found.a.classes, found.a, found.b
    return [
        (
            a.images[row],
            classes[a.labels[row]],
            classes[a.predicted[row]],
            float(a.confidence[row]),
            classes[b.predicted[row]],
            float(b.confidence[row]),
            "a" if found.only_a[row] else "b" if found.only_b[row] else "neither",
        )
        for row in found.disagreements
    ]


def _table(header: Row, rows: Iterable[Row], alignment: str = "---:") -> str:
    return table([plain(cell) for cell in header], ([plain(cell) for cell in row] for row in rows), alignment)


def _ratio(name: str, values: Sequence[float], form: str) -> Row:
    return (name, *map(form.format, values), f"{values[1] / values[0] - 1:+.0%}")


def _percent(answers: SplitPredictions) -> str:
    return f"{100 * answers.correct.mean():.2f} %"


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
