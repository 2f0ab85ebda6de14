"""Prediction sets: of each image the labels among which the true one is, at a rate that the validation split warrants.

Split-conformal prediction (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005) with the score
of adaptive prediction sets (Romano, Sesia and Candès, "Classification with Valid and Adaptive Coverage", NeurIPS 2020):
the probability of all labels that are less probable than a label, and of a part of its own. The method draws that part
at random. Here it is the rank of the image's energy among validation images of about the same confidence. That is as
good as random for the size of the sets, the same image always gets the same set, and the sets that are empty are those
of the images with the weakest evidence among equally confident ones, and not of any.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray
from pydantic import with_config

from darkroom.evaluation.intervals import mean_interval, share_interval, wilson
from darkroom.evaluation.metrics import Floats, Ints, with_interval
from darkroom.utils.files import EXACT

# Ranks are fitted to the images that the thresholds are taken from. In groups of 30 images this costs 0.8 points of
# coverage, in groups of 100 0.2, in groups of 300 nothing that 150 simulations would show.
GROUP_IMAGES = 300
MOST_GROUPS = 10
RANKS = np.linspace(0, 1, 101)
# Images whose scores are made at once, which takes several times the memory of their probabilities.
ROWS = 4096
# Digits of a score that are kept. Scores may be as small as probabilities are.
DIGITS = 6

Members = NDArray[np.bool_]
Table = tuple[tuple[float, ...], ...]


class CoverageError(ValueError):
    """The validation split is too small for a coverage; the message says how many images it takes."""


@with_config(EXACT)
@dataclass(frozen=True)
class LabelScores:
    """The scores of the labels of the validation images: all that prediction sets of any coverage need.

    ``scores`` are, by class, those that its images give to it, ascending; ``admitted`` is the share of all images that
    give the class at least as much. ``sizes`` are how many labels of an image have at least a score, on average, for
    each of the ``scores`` of all classes together, ascending. ``confidences`` divides images into groups by their
    highest probability, and ``energies`` are, by group, the energies at RANKS.
    """

    confidences: tuple[float, ...]
    energies: Table
    scores: Table
    admitted: Table
    sizes: tuple[float, ...]

    def of(self, probabilities: Floats, energies: Floats) -> Floats:
        """The score of each label, float64 [N, classes], from ``probabilities`` [N, classes] and ``energies`` [N]."""
        rank, found = self.ranks(probabilities, energies), np.empty(probabilities.shape)
        for start in range(0, len(found), ROWS):
            rows = slice(start, start + ROWS)
            found[rows] = score_labels(probabilities[rows], rank[rows])
        return found

    def ranks(self, probabilities: Floats, energies: Floats) -> Floats:
        """What stands for the random number of each image, float64 [N]: 1 for the image least like those of its group.

        It is a function of the image alone, so that scores can be exchanged as those of the method can, and about
        uniform at every confidence, as its random number is.
        """
        group = np.searchsorted(self._confidences, probabilities.max(axis=1))
        rank = np.empty(len(energies))
        for each in set(group.tolist()):
            is_of_it = group == each
            rank[is_of_it] = np.interp(energies[is_of_it], self._energies[each], RANKS)
        return rank

    def sets(self, coverage: float, classes: Sequence[str], *, per_class: bool) -> "PredictionSets":
        """The sets that hold the true label of a share ``coverage`` of all images, or of those of each class.

        Raises CoverageError if the split is too small.
        """
        risk = 1 - Fraction(str(coverage))
        needed = ceil(1 / risk) - 1
        groups = [np.array(each) for each in self.scores] if per_class else [np.sort(np.concatenate(self.scores))]
        fewest = min(range(len(groups)), key=lambda row: len(groups[row]))
        if len(groups[fewest]) < needed:
            whose = f" of class {classes[fewest]!r}" if per_class else ""
            there = len(groups[fewest])
            possible = floor(1000 * there / (there + 1)) / 1000
            lower = f"lower serve.coverage to {possible:g} or less, or " if there else ""
            raise CoverageError(
                f"coverage {coverage:g} takes {needed:,} validation images{whose}, and there are {there:,}; "
                f"{lower}add such images, by preprocess.val_fraction for example"
            )
        chosen = [int((len(scores) + 1) * risk) - 1 for scores in groups]
        found = [scores[row] for scores, row in zip(groups, chosen, strict=True)]
        thresholds = np.broadcast_to(np.array(found), len(self.scores))
        shares = [admitted[row] for admitted, row in zip(self.admitted, chosen, strict=True)] if per_class else []
        return PredictionSets(self, thresholds, coverage, sum(shares) if per_class else self.sizes[chosen[0]])

    @cached_property
    def _confidences(self) -> Floats:
        return np.array(self.confidences)

    @cached_property
    def _energies(self) -> Floats:
        return np.array(self.energies)


@dataclass(frozen=True, eq=False)
class PredictionSets:
    """A label is in the set of an image if its score reaches its class's of the ``thresholds`` float64 [classes].

    ``expected_size`` is the mean size of the validation images' sets.
    """

    scores: LabelScores
    thresholds: Floats
    coverage: float
    expected_size: float

    def of(self, probabilities: Floats, energies: Floats) -> Members:
        """Which labels are in the sets, bool [N, classes]; see ``LabelScores.of``."""
        found: Members = self.scores.of(probabilities, energies) >= self.thresholds
        return found


def fit_label_scores(probabilities: Floats, energies: Floats, labels: Ints) -> LabelScores:
    """The scores of validation images of ``labels`` [N]; see ``LabelScores.of`` for the others."""
    images, classes = probabilities.shape
    confidence = probabilities.max(axis=1)
    groups = min(MOST_GROUPS, max(1, images // GROUP_IMAGES))
    edges = np.unique(np.quantile(confidence, np.arange(1, groups) / groups, method="higher"))
    edges = edges[edges < confidence.max()]
    group = np.searchsorted(edges, confidence)
    ranked = [np.quantile(energies[group == each], RANKS, method="weibull") for each in range(len(edges) + 1)]
    unfilled = LabelScores(tuple(edges.tolist()), tuple(tuple(each.tolist()) for each in ranked), (), (), ())
    found = unfilled.of(probabilities, energies)
    scores, admitted = [], []
    for label in range(classes):
        own, all_images = np.sort(_rounded_down(found[labels == label, label])), np.sort(found[:, label])
        scores.append(tuple(own.tolist()))
        admitted.append(tuple((1 - np.searchsorted(all_images, own) / images).round(DIGITS).tolist()))
    every, pooled = np.sort(found, axis=None), np.sort(np.concatenate(scores))
    sizes = ((found.size - np.searchsorted(every, pooled)) / images).round(DIGITS)
    return LabelScores(unfilled.confidences, unfilled.energies, tuple(scores), tuple(admitted), tuple(sizes.tolist()))


def measure_sets(members: Members, labels: Ints) -> dict[str, float]:
    """How good sets, bool [N, classes], are for images of ``labels`` [N], with 95 % intervals.

    ``set_coverage`` is the share that holds the true label, ``set_size`` the mean number of labels, ``empty_sets`` the
    share without any. If all sizes are the same, that of the other images may be any, and the interval of ``set_size``
    allows for as many of them as Wilson's does.
    """
    sizes = members.sum(axis=1)
    interval = mean_interval(sizes.astype(np.float64))
    if np.ptp(sizes) == 0:
        other = share_interval(0.0, len(sizes))[1]
        interval = float(sizes[0] * (1 - other)), float(sizes[0] + (members.shape[1] - sizes[0]) * other)
    covered = float(members[np.arange(len(labels)), labels].mean())
    empty = float((sizes == 0).mean())
    return (
        with_interval("set_coverage", covered, share_interval(covered, len(labels)))
        | with_interval("set_size", float(sizes.mean()), interval)
        | with_interval("empty_sets", empty, share_interval(empty, len(labels)))
    )


def coverage_by_class(members: Members, labels: Ints) -> list[dict[str, float | None]]:
    """``set_coverage`` with its interval of the images of each class, None for a class without images."""
    images = np.bincount(labels, minlength=members.shape[1])
    covered = np.bincount(labels[members[np.arange(len(labels)), labels]], minlength=members.shape[1])
    shares = covered / np.maximum(images, 1)
    rows: list[dict[str, float | None]] = []
    for share, low, high, count in zip(shares, *wilson(shares, images), images, strict=True):
        found = with_interval("set_coverage", float(share), (float(low), float(high)))
        rows.append({**found} if count else dict.fromkeys(found))
    return rows


def ordered_labels(members: Members, probabilities: Floats, classes: Sequence[str]) -> list[str]:
    """The labels in one set, bool [classes], the most probable first."""
    found = np.flatnonzero(members)
    return [classes[index] for index in found[np.argsort(-probabilities[found], kind="stable")].tolist()]


def score_labels(probabilities: Floats, rank: Floats) -> Floats:
    """Of each label the probability of those that are less probable, and a part 1 - ``rank`` [N] of its own.

    Sums begin with the least probable label, so that small ones are exact.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, ::-1]
    rows = np.arange(len(order))[:, None]
    below = np.cumsum(probabilities[rows, order], axis=1)
    found: Floats = (1 - rank)[:, None] * probabilities
    found[rows, order[:, 1:]] += below[:, :-1]
    return found


def _rounded_down(scores: Floats) -> Floats:
    """With so many digits that a threshold admits the image that it is from."""
    unit = 10.0 ** (np.floor(np.log10(np.maximum(scores, np.finfo(float).tiny))) - DIGITS + 1)
    found: Floats = np.floor(scores / unit) * unit
    return np.where(found > scores, scores, found)
