"""How often the test of `darkroom compare --live` is wrong if it is repeated after every label, and what it finds.

    python -m benchmarks.serve.peeking [--streams 2000] [--rounds 5]

Conditions: simulated pictures on which exactly one of two models is right, up to 4,000 a stream; others decide nothing.
Each is a gain with the probability that the case names, and after each the test is repeated. Beside it stands McNemar's
exact test, two-sided at the same 0.05: once, after as many such pictures as it takes to find the difference four times
in five; and, for equally good models, after every picture too, as nobody should use it. A round is a seed.
"""

from argparse import Namespace
from collections.abc import Callable
from functools import cache

import numpy as np
from benchmarks import harness
from benchmarks.harness import Benchmark, Figures, Job, run
from numpy.typing import NDArray
from scipy.stats import binom

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
# Of losses and gains: whether the models are taken for different.
Test = Callable[[Ints, Ints], Bools]

ALPHA = 0.05
POWER = 0.8
PICTURES = 4_000
# Streams that are simulated at once: 16 MB for a number of each picture.
BLOCK = 500
SHARES = (0.55, 0.6, 0.7, 0.8, 0.9)
SEQUENTIAL = "sequential test, always"
ALWAYS = "McNemar's test, always"
ONCE = "McNemar's test, once"
FALSE = "% decided falsely"
MEDIAN = "pictures, median"


def sequential(losses: Ints, gains: Ints) -> Bools:
    from darkroom.evaluation.sequential import log_evidence

    found: Bools = log_evidence(losses, gains) >= -np.log(ALPHA)
    return found


def mcnemar(losses: Ints, gains: Ints) -> Bools:
    found: Bools = np.minimum(losses, gains) <= _most_losses()[losses + gains]
    return found


@cache
def _most_losses() -> Ints:
    """The most losses (or gains) that are significantly few, of each number of pictures; -1 where none are."""
    pictures = np.arange(PICTURES + 1)
    found = binom.ppf(ALPHA / 2, pictures, 0.5)
    most: Ints = np.where(2 * binom.cdf(found, pictures, 0.5) <= ALPHA, found, found - 1).astype(np.int64)
    return most


def always(test: Test, share: float) -> Job:
    def job(options: Namespace) -> Figures:
        generator = np.random.default_rng(options.round)
        decisions = [_first_decision(generator, test, share) for _ in range(0, options.streams, BLOCK)]
        better, worse, pictures = (np.concatenate(each) for each in zip(*decisions, strict=True))
        found = _figures(share, better, worse)
        return found | ({MEDIAN: float(np.median(pictures))} if share > 0.5 else {})

    return job


def _first_decision(generator: np.random.Generator, test: Test, share: float) -> tuple[Bools, Bools, Ints]:
    """Whether each stream is first taken for better, and for worse, and after how many pictures."""
    gains = (generator.random((BLOCK, PICTURES)) < share).cumsum(1)
    losses = np.arange(1, PICTURES + 1) - gains
    is_decided = test(losses, gains)
    first, ever, rows = is_decided.argmax(1), is_decided.any(1), np.arange(BLOCK)
    is_better = gains[rows, first] > losses[rows, first]
    return ever & is_better, ever & ~is_better, np.where(ever, first + 1, PICTURES)


def once(share: float, pictures: int) -> Job:
    def job(options: Namespace) -> Figures:
        gains = np.random.default_rng(options.round).binomial(pictures, share, options.streams)
        losses = pictures - gains
        is_decided = mcnemar(losses, gains)
        found = _figures(share, is_decided & (gains > losses), is_decided & (gains < losses))
        return found | ({MEDIAN: float(pictures)} if share > 0.5 else {})

    return job


def _figures(share: float, better: Bools, worse: Bools) -> dict[str, float]:
    if share == 0.5:
        return {FALSE: 100 * float((better | worse).mean())}
    return {"% found": 100 * float(better.mean()), FALSE: 100 * float(worse.mean())}


def pictures_needed(share: float) -> int:
    """The smallest number of pictures with which McNemar's test, used once, finds the difference so often."""
    pictures = np.arange(PICTURES + 1)
    power = binom.cdf(_most_losses(), pictures, 1 - share)
    return int(np.argmax(power >= POWER))


def main() -> None:
    parser = harness.arguments(__doc__, rounds=5)
    parser.add_argument("--streams", type=int, default=2_000, help="of each round, a multiple of 500")
    options = parser.parse_args()
    equal = _case(0.5)
    jobs: dict[harness.Key, Job] = {
        (equal, SEQUENTIAL): always(sequential, 0.5),
        (equal, ONCE): once(0.5, PICTURES),
        (equal, ALWAYS): always(mcnemar, 0.5),
    }
    for share in SHARES:
        jobs[_case(share), SEQUENTIAL] = always(sequential, share)
        jobs[_case(share), ONCE] = once(share, pictures_needed(share))
    goals = [{"case": equal, "name": SEQUENTIAL, "unit": FALSE, "at_most": 100 * ALPHA}]
    conditions = {"streams": options.streams, "pictures": PICTURES, "alpha": ALPHA}
    run(Benchmark(title="Deciding on live traffic", jobs=jobs, conditions=conditions, goals=goals), options)


def _case(share: float) -> str:
    return f"share of gains {share:g}" + (", equally good models" if share == 0.5 else "")


if __name__ == "__main__":
    main()
