"""Compare two models on the same test images: is the second one really better, and where?"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from darkroom.evaluation.metrics import Floats, Ints, accuracy_interval, expected_calibration_error
from darkroom.evaluation.predictions import SplitPredictions

RESAMPLES = 9_999
# Of one block of resamples: 8 bytes each.
BLOCK_NUMBERS = 1 << 20
# Of the risk of a lower bound, the part for how many images are discordant: that is known better than whose they are.
RISK_OF_SPREAD = 0.2


@dataclass(frozen=True)
class Comparison:
    """The predictions of the models ``a`` and ``b`` for the same N images, and the statistics of the comparison.

    Differences and changes are those from ``a`` to ``b``: positive where ``b`` is better. Raises ValueError if the
    answers are not for the same images and classes.
    """

    a: SplitPredictions
    b: SplitPredictions

    def __post_init__(self) -> None:
        if self.a.classes != self.b.classes:
            raise ValueError(f"classes differ ({_shown(self.a.classes)} and {_shown(self.b.classes)})")
        if self.a.images != self.b.images or not np.array_equal(self.a.labels, self.b.labels):
            raise ValueError(f"test images differ ({len(self.a.images):,} and {len(self.b.images):,} of them)")

    @cached_property
    def only_a(self) -> NDArray[np.bool_]:
        """Which images ``a`` alone answers rightly [N]."""
        return self.a.correct & ~self.b.correct

    @cached_property
    def only_b(self) -> NDArray[np.bool_]:
        """Which images ``b`` alone answers rightly [N]."""
        return self.b.correct & ~self.a.correct

    @cached_property
    def losses(self) -> int:
        return int(self.only_a.sum())

    @cached_property
    def gains(self) -> int:
        return int(self.only_b.sum())

    @property
    def table(self) -> list[list[int]]:
        """How many images ``a`` (rows) and ``b`` (columns) answer rightly and wrongly, right first."""
        both = int(self.a.correct.sum()) - self.losses
        return [[both, self.losses], [self.gains, len(self.a.labels) - both - self.losses - self.gains]]

    @property
    def difference(self) -> float:
        """The accuracy of ``b`` less that of ``a``."""
        return (self.gains - self.losses) / len(self.a.labels)

    def difference_interval(self, seed: int = 0) -> tuple[float, float]:
        """The 95 % percentile bootstrap interval of ``difference``: images are drawn, each with both its answers.

        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13. It knows only the differences that
        it has seen: of models that answer equally everywhere it says 0 to 0.
        """
        from scipy.stats import bootstrap

        found = bootstrap(
            (self.only_b.astype(np.int8) - self.only_a,),
            np.mean,
            n_resamples=RESAMPLES,
            batch=max(1, BLOCK_NUMBERS // len(self.a.labels)),
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        return float(found.low), float(found.high)

    @cached_property
    def p_better(self) -> float:
        """How likely equally good models show at least this gain: one-sided exact p."""
        return mcnemar(self.losses, self.gains, "greater")

    @cached_property
    def p_worse(self) -> float:
        """How likely equally good models show at least this loss: one-sided exact p."""
        return mcnemar(self.gains, self.losses, "greater")

    @property
    def p_different(self) -> float:
        """How likely equally good models show at least this difference in either direction: two-sided exact p."""
        return mcnemar(self.losses, self.gains, "two-sided")

    def at_worst(self, alpha: float) -> float:
        """A lower bound of the true difference, which is wrong at most at the rate ``alpha``; see ``lower_bound``."""
        return float(lower_bound(self.losses, self.gains, len(self.a.labels), alpha))

    @property
    def recalls(self) -> tuple[Floats, Floats]:
        """The recall of each class, of ``a`` and of ``b`` [classes]; NaN for a class without test images."""
        images = np.where(self.class_sizes, self.class_sizes, np.nan)
        return self._by_class(self.a.correct) / images, self._by_class(self.b.correct) / images

    @property
    def class_sizes(self) -> Ints:
        """How many test images each class has [classes]."""
        return np.bincount(self.a.labels, minlength=len(self.a.classes))

    def p_worse_on(self, rows: Ints) -> float:
        """How likely a model as good on the images ``rows`` shows at least the loss of ``b``: one-sided exact p."""
        return mcnemar(int(self.only_b[rows].sum()), int(self.only_a[rows].sum()), "greater")

    def _by_class(self, chosen: NDArray[np.bool_]) -> Ints:
        return np.bincount(self.a.labels[chosen], minlength=len(self.a.classes))

    @property
    def confusions(self) -> tuple[Ints, Ints]:
        """The confusion matrices of ``a`` and ``b``: int64 [classes, classes] counts, true classes as rows."""
        count = len(self.a.classes)
        first, second = (
            np.bincount(each.labels * count + each.predicted, minlength=count**2).reshape(count, count)
            for each in (self.a, self.b)
        )
        return first, second

    def calibration_errors(self, bins: int) -> tuple[float, float]:
        """The expected calibration errors of ``a`` and ``b``, from the confidence as predictions.csv holds it."""
        first, second = (expected_calibration_error(each.confidence, each.correct, bins) for each in (self.a, self.b))
        return first, second

    @property
    def disagreements(self) -> Ints:
        """The rows of the images to which the models give different answers, right or not."""
        return np.flatnonzero(self.a.predicted != self.b.predicted)

    def as_json(self, *, alpha: float, bins: int) -> dict[str, Any]:
        """The metrics as JSON values, except the bootstrap's; ``bins`` are those of the calibration error."""
        return {
            "images": len(self.a.labels),
            "accuracy": {"a": _accuracy(self.a), "b": _accuracy(self.b)},
            "difference": self.difference,
            "p_better": self.p_better,
            "p_different": self.p_different,
            "at_worst": {"value": self.at_worst(alpha), "alpha": alpha},
            "table": {"rows": "a right, a wrong", "columns": "b right, b wrong", "images": self.table},
            "calibration_error": dict(zip("ab", self.calibration_errors(bins), strict=True)),
            "recall": {
                name: {"a": a, "b": b, "change": b - a, "images": images}
                if images
                else {"a": None, "b": None, "change": None, "images": 0}
                for name, a, b, images in zip(
                    self.a.classes, *(each.tolist() for each in (*self.recalls, self.class_sizes)), strict=True
                )
            },
            "disagreements": len(self.disagreements),
        }


def mcnemar(losses: int, gains: int, alternative: Literal["greater", "two-sided"]) -> float:
    """The exact p of McNemar's test: of ``losses + gains`` images that one model alone answers rightly, is half each's?

    "greater" asks whether there are more gains than that. McNemar, "Note on the sampling error of the difference
    between correlated proportions or percentages", Psychometrika 12, 1947; exact by the binomial distribution. Without
    any such image nothing speaks for a difference: p is 1.
    """
    from scipy.stats import binomtest

    if losses + gains == 0:
        return 1.0
    return float(binomtest(gains, losses + gains, 0.5, alternative=alternative).pvalue)


def least_images(alpha: float) -> int:
    """The fewest images on which ``mcnemar`` can find one model better at ``alpha``: where it gains on all of them.

    Its p is 0.5^n then.
    """
    return math.floor(-math.log2(alpha)) + 1


def lower_bound(losses: ArrayLike, gains: ArrayLike, images: int, alpha: float) -> Floats:
    """A one-sided lower bound of the true difference in accuracy, exact and conservative.

    Takes numbers or arrays of them, and gives a bound for each pair. The difference is the share of images that one
    model alone answers rightly, times how much more than half of those are gains. Either share has its exact bounds
    (Clopper and Pearson, Biometrika 26, 1934), that of the gains whatever the number of such images is. Together they
    are wrong at most at the rate ``alpha``, as their two rates add up to it (Bonferroni); nothing more is supposed. The
    usual bound, from the normal distribution, keeps no rate where few images are discordant, as between two good
    models. For models that are about as good this one lies lower by a fifth to a third; the exact bounds of losses and
    gains by themselves, added up, would by two thirds.
    """
    losses, gains = np.asarray(losses), np.asarray(gains)
    discordant, spread = losses + gains, RISK_OF_SPREAD * alpha
    excess = 2 * _lowest_share(gains, discordant, alpha - spread) - 1
    highest = 1 - _lowest_share(images - discordant, images, spread / 2)
    share = np.where(excess < 0, highest, _lowest_share(discordant, images, spread / 2))
    bound: Floats = excess * share
    return bound


def _lowest_share(count: Ints, of: Ints | int, risk: float) -> Floats:
    """Clopper and Pearson's lower bound of a share, wrong at most at the rate ``risk``.

    It is a quantile of Beta(k, n - k + 1). SciPy's ``binomtest`` searches for the same number, one at a time.
    """
    from scipy.special import betaincinv

    found: Floats = np.where(count > 0, betaincinv(np.maximum(count, 1), of - count + 1, risk), 0.0)
    return found


def _accuracy(answers: SplitPredictions) -> dict[str, float]:
    right, images = int(answers.correct.sum()), len(answers.labels)
    low, high = accuracy_interval(right, images)
    return {"value": right / images, "low": low, "high": high}


def _shown(classes: tuple[str, ...]) -> str:
    return f"{len(classes)}: {', '.join(classes[:3])}{', …' if len(classes) > 3 else ''}"
