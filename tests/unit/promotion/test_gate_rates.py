"""How often the gate errs, over many pairs of models whose true accuracies are known.

Pairs are made up image by image: with probability ``losses`` the champion alone is right, with ``gains`` the challenger
alone. Seeds are fixed; a bound on a count is the one that a gate which keeps its promise would break once in a million
runs of the test, by the binomial distribution.
"""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom
from tests.unit.promotion.fakes import answers, evaluated, table

from darkroom.config.settings import Gate
from darkroom.evaluation.comparison import lower_bound, mcnemar
from darkroom.promotion.gate import evaluate_gate

ONCE_IN_A_MILLION = 1e-6


def promotions(generator, *, pairs, images, losses, gains, accuracy=0.9, **settings):
    """How many challengers the gate promotes; the champions have the given accuracy.

    The gate looks at how many images of each kind there are, so each count of them is judged once.
    """
    both = accuracy - losses
    kinds = generator.multinomial(images, [both, losses, gains, 1 - both - losses - gains], size=pairs)
    counted, times = np.unique(kinds[:, 1:3], axis=0, return_counts=True)
    right = round(images * accuracy)
    return sum(
        int(number) * passes(int(lost), int(gained), right - int(lost), images, Gate(**settings))
        for (lost, gained), number in zip(counted, times, strict=True)
    )


def passes(losses, gains, both, images, settings):
    champion, challenger = table(both, losses, gains, images - both - losses - gains)
    return evaluate_gate(
        settings,
        evaluated(answers(challenger)),
        evaluated(answers(champion), version="1"),
        bins=15,
        cache=Path("no cache"),
    ).passed


def test_of_a_thousand_equally_good_challengers_no_more_are_promoted_than_alpha_says():
    generator = np.random.default_rng(0)

    # Without the rule about classes, which refuses some of them too: the test alone is to keep its promise.
    options = {"alpha": 0.05, "max_class_drop": 1.0}
    promoted = promotions(generator, pairs=1_000, images=500, losses=0.05, gains=0.05, **options)

    assert promoted <= binom.ppf(1 - ONCE_IN_A_MILLION, 1_000, 0.05)


@pytest.mark.parametrize("losses", [0.01, 0.03, 0.06])
def test_a_challenger_better_by_one_point_is_mostly_promoted_on_ten_thousand_images(losses):
    generator = np.random.default_rng(1)

    promoted = promotions(generator, pairs=200, images=10_000, losses=losses, gains=losses + 0.01)

    assert promoted >= 0.8 * 200


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("images", [100, 1_000, 10_000])
@pytest.mark.parametrize("disagreement", [0.01, 0.1, 0.5])
def test_the_rule_keeps_alpha_whatever_it_is_and_however_alike_the_models_answer(alpha, images, disagreement):
    generator = np.random.default_rng(2)
    share = disagreement / 2
    losses, gains, _ = generator.multinomial(images, [share, share, 1 - disagreement], size=1_000).T

    pairs, times = np.unique(np.stack([losses, gains], axis=1), axis=0, return_counts=True)
    promoted = times[[mcnemar(*pair, "greater") < alpha for pair in pairs.tolist()]].sum()

    assert promoted <= binom.ppf(1 - ONCE_IN_A_MILLION, 1_000, alpha)


@pytest.mark.parametrize("disagreement", [0.006, 0.02, 0.2])
def test_a_challenger_worse_by_the_margin_is_rarely_taken_for_as_good(disagreement):
    """At the margin itself the promise is hardest to keep."""
    generator = np.random.default_rng(3)
    alpha, margin, images = 0.05, 0.005, 10_000
    shares = [(disagreement + margin) / 2, (disagreement - margin) / 2, 1 - disagreement]
    losses, gains, _ = generator.multinomial(images, shares, size=1_000).T

    accepted = (lower_bound(losses, gains, images, alpha) >= -margin).sum()

    assert accepted <= binom.ppf(1 - ONCE_IN_A_MILLION, 1_000, alpha)
