"""Which of two models is better, by a test that may be repeated after every label.

A test for a fixed number of images errs more often each time that it is repeated on the images so far. Here the risk
holds for all looks together, however many there are and whenever somebody stops.

Only the images count that exactly one of the models answers rightly, as in McNemar's test: each is a gain or a loss of
the second model. If both are equally good, the next one is a gain with probability 1/2, whatever has been seen. The
evidence is the likelihood of the gains and losses, averaged over the share of gains that they may have (a beta
distribution), divided by their likelihood at one half. Under equally good models this ratio is a martingale that starts
at 1, and it ever reaches 1 / alpha with probability alpha at most (Ville, 1939; Robbins, "Statistical methods related
to the law of the iterated logarithm", Annals of Mathematical Statistics 41, 1970; Howard, Ramdas, McAuliffe and Sekhon,
"Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49, 2021).
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln, xlog1py, xlogy

from darkroom.evaluation.metrics import Floats

Verdict = Literal["better", "worse", "undecided"]
# Both parameters of the beta distribution. 1 is best for shares of gains near 0 or 1, and 50 for shares near 1/2; with
# 5, the median number of images is within a fifth of the best of 1, 2, 5, 10, 20 and 50 for shares of 0.55 to 0.7.
PRIOR = 5.0


def log_evidence(losses: ArrayLike, gains: ArrayLike, share: ArrayLike = 0.5) -> Floats:
    """The logarithm of the evidence against ``share`` as the true share of gains.

    Takes numbers or arrays that broadcast, and gives a float64 for each. ``share`` must be within 0 and 1.
    """
    losses, gains = np.asarray(losses, np.float64), np.asarray(gains, np.float64)
    averaged = betaln(gains + PRIOR, losses + PRIOR) - betaln(PRIOR, PRIOR)
    found: Floats = averaged - xlogy(gains, share) - xlog1py(losses, -np.asarray(share, np.float64))
    return found


def verdict(losses: int, gains: int, alpha: float) -> Verdict:
    """Whether the second model is better or worse, or this is not decided yet.

    Over all looks together it is wrong with probability ``alpha`` at most. It needs no order of the images, and so
    their labels may come in any; but which images have labels must not depend on which model is right.
    """
    if log_evidence(losses, gains) < -np.log(alpha):
        return "undecided"
    return "better" if gains > losses else "worse"


def gain_interval(losses: int, gains: int, alpha: float) -> tuple[float, float]:
    """The shares of gains that the images do not speak against.

    The intervals of all looks together hold the true share with probability 1 - ``alpha`` at least. ``verdict`` decides
    as soon as one half is outside.
    """
    return _lowest_share(losses, gains, alpha), 1 - _lowest_share(gains, losses, alpha)


def _lowest_share(losses: int, gains: int, alpha: float) -> float:
    from scipy.optimize import brentq

    if not gains:
        return 0.0

    def excess(share: float) -> float:
        return float(log_evidence(losses, gains, share) + np.log(alpha))

    # Near 0 there are far smaller numbers than 1 has neighbors: the highest share is found as the lowest of losses.
    return float(brentq(excess, np.finfo(float).tiny, gains / (gains + losses)))
