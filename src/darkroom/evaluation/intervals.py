"""The 95 % intervals of metrics that are measured on a sample of images.

The images are taken for independent draws: an interval says how far the metric may lie from its value on endless test
images of the same kind. docs/metrics.md shows how often each interval covers that value in simulations.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Interval = tuple[float, float]

# The risk on either side, and the standard normal quantile of the rest.
TAIL = 0.025
Z = 1.959963984540054
SIMULATIONS = 2_000
# In a bin of so many images, what they show of the noise and what is expected count alike.
PRIOR_IMAGES = 10
# With fewer mistakes, those that happened say too little about those that may happen.
FEW_MISTAKES = 5


def wilson(share: ArrayLike, images: ArrayLike) -> tuple[Floats, Floats]:
    """The intervals of shares of so many independent ``images``; 0 to 1 where there are none (Wilson, 1927).

    SciPy's ``binomtest`` gives the same for one share of a whole number of images.
    """
    share, images = np.asarray(share, np.float64), np.asarray(images, np.float64)
    prior = Z**2 / np.where(images > 0, images, 1)
    middle = (share + prior / 2) / (1 + prior)
    half = np.sqrt(prior * share * (1 - share) + prior**2 / 4) / (1 + prior)
    # Rounding must not exclude the share itself, where that is 0 or 1.
    low, high = np.clip(middle - half, 0.0, share), np.clip(middle + half, share, 1.0)
    return np.where(images > 0, low, 0.0), np.where(images > 0, high, 1.0)


def share_interval(share: float, images: float) -> Interval:
    """``wilson`` of one share."""
    low, high = wilson(share, images)
    return float(low), float(high)


def mean_share_interval(shares: Floats) -> Interval:
    """The interval of the mean of ``shares`` [N], each from 0 to 1, such as the share of right answers to several views
    of an image.

    It is Wilson's with an effective number of images, as in ``macro_intervals``; of equal shares with their own number.
    """
    images, mean = len(shares), float(shares.mean())
    if np.ptp(shares) == 0:
        return share_interval(float(shares[0]), images)
    # Few images show too small a variance around their own mean, and no variance is larger than that of 0 and 1.
    variance = min(float(shares.var(ddof=1)), mean * (1 - mean)) / images
    return share_interval(mean, mean * (1 - mean) / variance)


def class_intervals(confusion: Ints) -> dict[str, tuple[Floats, Floats]]:
    """The intervals of precision, recall and F1 of each class, from ``confusion`` [classes, classes].

    Recall is a share of the images of a class, and precision of those predicted as it. F1 is 2 J / (1 + J), where J is
    the share of right answers among the images that are of the class or predicted as it.
    """
    right, actual, predicted = _counts(confusion)
    either = actual + predicted - right
    jaccard = wilson(_ratio(right, either), either)
    low, high = (2 * bound / (1 + bound) for bound in jaccard)
    return {
        "precision": wilson(_ratio(right, predicted), predicted),
        "recall": wilson(_ratio(right, actual), actual),
        "f1": (low, high),
    }


def macro_intervals(confusion: Ints) -> dict[str, Interval]:
    """The intervals of macro precision, recall and F1 over the classes with images.

    They are Wilson's with an effective number of images, as for shares in surveys (Kott and Carr, Journal of Official
    Statistics 13, 1997): that number of independent images would give the variance of the metric, which is found by
    the delta method (for F1 as Takahashi et al., Applied Intelligence 52, 2022). A percentile bootstrap covers 90 %
    where a good model makes three or four mistakes in all, and says 1 to 1 where it makes none.
    """
    right, actual, predicted = _counts(confusion)
    has_images = actual > 0
    classes = has_images.sum()
    precision, recall, f1 = _ratio(right, predicted), _ratio(right, actual), _ratio(2 * right, actual + predicted)
    per_actual, per_predicted, per_both = (_ratio(has_images, each) for each in (actual, predicted, actual + predicted))
    # What an image of each cell that has any adds to the sum over the classes.
    true, answer = confusion.nonzero()
    count, is_right = confusion[true, answer], true == answer
    of_f1 = f1 * per_both
    found = {
        "precision": (precision, (is_right - precision[answer]) * per_predicted[answer], predicted[answer]),
        "recall": (recall, (is_right - recall[true]) * per_actual[true], actual[true]),
        "f1": (f1, 2 * is_right * per_both[true] - of_f1[true] - of_f1[answer], actual[true]),
    }
    # F1 is a ratio, which a small sample underestimates.
    bias = {"f1": float(((1 - f1) * of_f1).sum() / classes)}
    intervals = {}
    for name, (scores, influence, group) in found.items():
        share = float(scores[has_images].mean())
        # Few images show too small a variance around their own mean.
        corrected = count * influence**2 * group / np.maximum(group - 1, 1)
        variance = float(corrected.sum()) / classes**2
        effective = share * (1 - share) / variance if variance else classes**2 / (1 / actual[has_images]).sum()
        intervals[name] = share_interval(min(1.0, share + bias.get(name, 0.0)), effective)
    return intervals


def mean_interval(values: Floats) -> Interval:
    """The interval of the mean of ``values`` [N], none below 0, such as losses with a long tail.

    By Hall's transformation, which removes the skewness from Student's statistic ("On the removal of skewness by
    transformation", Journal of the Royal Statistical Society B 54, 1992). Of equal values it is their value.
    """
    mean, deviation = float(values.mean()), float(values.std())
    if deviation == 0:
        return mean, mean
    images = len(values)
    skewness = float((((values - mean) / deviation) ** 3).mean())

    def bound(quantile: float) -> float:
        skewed = quantile / np.sqrt(images) - skewness / (6 * images)
        root = np.cbrt(1 + skewness * skewed)
        # The same as (root - 1) / (skewness / 3), and defined without skewness too.
        return float(mean - deviation * 3 * skewed / (root**2 + root + 1))

    return max(0.0, bound(Z)), bound(-Z)


def calibration_interval(confidence: Floats, correct: NDArray[np.bool_], bins: int) -> Interval:
    """The interval of the expected calibration error over ``bins`` equally wide bins of confidence.

    The error that a sample shows is too high: chance opens a gap between confidence and accuracy in every bin, and no
    gap is negative (Kumar, Liang and Ma, "Verified Uncertainty Calibration", NeurIPS 2019). A bootstrap adds chance a
    second time: for a calibrated model it never covers. This inverts a test instead: the interval holds the errors
    that, with the noise of every bin, seldom show either less or more than the sample does. The true gaps are taken for
    those of the sample, with as much noise again, scaled to the error. The sample's error may lie above the interval.

    With fewer than five mistakes the interval reaches at least to the distance between the mean confidence and the
    lowest accuracy that Wilson's interval allows; no true error can be below the true distance of these means.
    """
    from scipy.optimize import bisect

    images, member = len(confidence), np.minimum((confidence * bins).astype(int), bins - 1)
    residuals = correct - confidence
    count, sums, squares, expected = (
        np.bincount(member, weights=weights, minlength=bins)
        for weights in (np.ones(images), residuals, residuals**2, confidence * (1 - confidence))
    )
    gaps = sums / images
    shown = float(np.abs(gaps).sum())
    # An image lies in one bin, which makes the bins depend on each other: less noise where the gaps are large.
    noticed = np.maximum(squares - np.abs(sums) * shown, 0)
    # In a bin with few images this may be far from what is expected, which counts like some more images.
    variances = (noticed * count + PRIOR_IMAGES * np.maximum(expected, noticed)) / (count + PRIOR_IMAGES)
    noise, doubt = np.sqrt(variances) / images * np.random.default_rng(0).normal(size=(2, SIMULATIONS, bins))
    shapes = gaps + doubt
    shapes /= np.maximum(np.abs(shapes).sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)

    def excess(error: float, share: float) -> float:
        """By how much more than ``share`` of the simulated samples show less than this one, if ``error`` is true."""
        return float((np.abs(error * shapes + noise).sum(axis=1) <= shown).mean()) - share

    # Any larger error shows more in every simulated sample; rounding needs the room.
    largest = shown + float(np.abs(noise).sum(axis=1).max()) + 1e-6
    low, high = (
        float(bisect(excess, 0.0, largest, args=(share,), xtol=1e-7)) if shown and excess(0.0, share) > 0 else 0.0
        for share in (1 - TAIL, TAIL)
    )
    right = int(correct.sum())
    if images - right < FEW_MISTAKES:
        high = max(high, float(confidence.mean() - wilson(right / images, images)[0]))
    return low, min(1.0, high)


def _counts(confusion: Ints) -> tuple[Floats, Floats, Floats]:
    """How many images of each class are right, are of it, and are predicted as it, each float64 [classes]."""
    counts = confusion.astype(np.float64)
    return counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)


def _ratio(part: Floats | NDArray[np.bool_], whole: Floats) -> Floats:
    """``part / whole``, 0 where there is no whole."""
    found: Floats = np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
    return found
