"""The test that may be looked at after every label: how often it errs, what it finds, and what its interval holds."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta, binom

from darkroom.evaluation.sequential import PRIOR, gain_interval, log_evidence, verdict

ALPHA = 0.05
ONCE_IN_A_MILLION = 1e-6
STREAMS = 1_000


def streams(share, images, seed=0):
    """Losses and gains after each image on which one model alone is right, int64 [streams, images] both."""
    gains = (np.random.default_rng(seed).random((STREAMS, images)) < share).cumsum(1)
    return np.arange(1, images + 1) - gains, gains


def decided(losses, gains):
    """Whether the test, repeated after every image, ever calls each stream better, and whether ever worse."""
    is_decided = log_evidence(losses, gains) >= -np.log(ALPHA)
    return (is_decided & (gains > losses)).any(1), (is_decided & (gains < losses)).any(1)


def test_who_looks_after_every_image_of_equally_good_models_errs_no_more_often_than_alpha_says():
    better, worse = decided(*streams(0.5, 1_000))

    assert 0 < (better | worse).sum() <= binom.ppf(1 - ONCE_IN_A_MILLION, STREAMS, ALPHA)


@pytest.mark.parametrize(("share", "images"), [(0.6, 600), (0.7, 250), (0.9, 50)])
def test_a_difference_is_found_in_its_direction(share, images):
    better, worse = decided(*streams(share, images))
    assert better.mean() > 0.95
    assert worse.mean() < ALPHA / 2

    better, worse = decided(*streams(1 - share, images))
    assert worse.mean() > 0.95
    assert better.mean() < ALPHA / 2


@pytest.mark.parametrize(("losses", "gains", "share"), [(0, 0, 0.5), (3, 9, 0.5), (7, 2, 0.3), (0, 12, 0.9)])
def test_the_evidence_is_the_averaged_likelihood_divided_by_that_of_the_share(losses, gains, share):
    averaged, _ = quad(lambda each: each**gains * (1 - each) ** losses * beta.pdf(each, PRIOR, PRIOR), 0, 1)
    assert log_evidence(losses, gains, share) == pytest.approx(
        np.log(averaged / (share**gains * (1 - share) ** losses)), abs=1e-9
    )


@pytest.mark.parametrize("share", [0.5, 0.1, 0.83])
def test_the_evidence_is_expected_to_stay_as_it_is_at_the_true_share(share):
    """A martingale: what else is summed over the next image, the evidence is that of now."""
    for losses, gains in ((0, 0), (4, 1), (20, 30)):
        now = np.exp(log_evidence(losses, gains, share))
        then = share * np.exp(log_evidence(losses, gains + 1, share)) + (1 - share) * np.exp(
            log_evidence(losses + 1, gains, share)
        )
        assert then == pytest.approx(now)


def test_no_image_and_equal_numbers_decide_nothing():
    assert verdict(0, 0, ALPHA) == verdict(500, 500, ALPHA) == "undecided"
    assert gain_interval(0, 0, ALPHA) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("losses", "gains"), [(0, 3), (0, 40), (40, 0), (12, 30), (400, 380), (90, 160), (1, 5000), (5000, 1)]
)
def test_it_decides_as_soon_as_one_half_is_outside_of_the_interval(losses, gains):
    low, high = gain_interval(losses, gains, ALPHA)
    found = {"better": low > 0.5, "worse": high < 0.5, "undecided": low <= 0.5 <= high}
    assert found[verdict(losses, gains, ALPHA)]
    assert low <= gains / (losses + gains) <= high
    assert gain_interval(gains, losses, ALPHA) == pytest.approx((1 - high, 1 - low))


def test_the_intervals_of_all_looks_hold_the_true_share_together():
    share = 0.7
    losses, gains = streams(share, 500, seed=1)
    missed = (log_evidence(losses, gains, share) >= -np.log(ALPHA)).any(1)
    assert missed.sum() <= binom.ppf(1 - ONCE_IN_A_MILLION, STREAMS, ALPHA)
    low, high = gain_interval(30, 70, ALPHA)
    for bound in (low, high):
        assert log_evidence(30, 70, bound) == pytest.approx(-np.log(ALPHA))
