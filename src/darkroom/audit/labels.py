"""Judge the label of each image by what a model that has not seen it says."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.evaluation.metrics import Floats, Ints
from darkroom.evaluation.reference import calibrated, fit_temperature


@dataclass(frozen=True)
class LabelJudgment:
    """What the models of the folds think of N labels.

    ``probabilities`` float64 [N, classes] are calibrated at ``temperature``; ``labels`` int64 [N] are those given.
    """

    probabilities: Floats
    labels: Ints
    temperature: float

    @property
    def predicted(self) -> Ints:
        """The most probable class of each image [N]."""
        found: Ints = self.probabilities.argmax(axis=1)
        return found

    @property
    def suggested(self) -> Ints:
        """The most probable class of each image other than its own [N]."""
        others = self.probabilities.copy()
        others[np.arange(len(self.labels)), self.labels] = -1
        found: Ints = others.argmax(axis=1)
        return found

    @property
    def belief(self) -> Floats:
        """The probability of the given label of each image [N]."""
        found: Floats = self.probabilities[np.arange(len(self.labels)), self.labels]
        return found

    @property
    def ranking(self) -> Ints:
        """All images, the least believed label first [N]."""
        return np.argsort(self.belief, kind="stable")

    @property
    def suspects(self) -> NDArray[np.bool_]:
        """Whose label is probably wrong, bool [N].

        By confident learning: another class is at least as probable as it is, on average, for the images that carry its
        label, and it is the most probable of those classes (Northcutt, Jiang and Chuang, "Confident Learning:
        Estimating Uncertainty in Dataset Labels", JAIR 70, 2021). So a class that the models seldom recognize does not
        make each of its images suspicious. As in cleanlab, a label that is the most probable one is not suspected.
        """
        classes = self.probabilities.shape[1]
        counts = np.bincount(self.labels, minlength=classes)
        sums = np.bincount(self.labels, weights=self.belief, minlength=classes)
        usual = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
        confident = np.where(self.probabilities >= usual, self.probabilities, -1.0)
        found = confident.argmax(axis=1)
        is_any = confident.max(axis=1) >= 0
        suspects: NDArray[np.bool_] = is_any & (found != self.labels) & (self.predicted != self.labels)
        return suspects


def judge_labels(logits: Floats, labels: Ints) -> LabelJudgment:
    """Judge ``labels`` int64 [N] by ``logits`` [N, classes] of models that have not seen the images.

    The models were trained on the same kind of labels, wrong ones included: the probability is that of the label that
    the data would carry.
    """
    temperature = fit_temperature(logits, labels)
    return LabelJudgment(calibrated(logits, temperature), labels, temperature)
