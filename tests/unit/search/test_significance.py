"""A gain is called more than luck only where the seeds' noise does not explain it."""

import json
import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from darkroom.search.repeats import Candidate
from darkroom.search.significance import SeedComparison, compare_seeds


def candidate(label: str, *values: float, failures: tuple[str, ...] = ()) -> Candidate:
    number = 0 if label == "starting point" else int(label.split()[1])
    return Candidate(label, number, {"train.lr": 0.01 * (number + 1)}, values, failures)


START = candidate("starting point", 0.90, 0.91, 0.905)
CLEAR = candidate("trial 7", 0.95, 0.955, 0.952)
SLIGHT = candidate("trial 3", 0.905, 0.915, 0.91)


def numbers(comparison: SeedComparison) -> tuple[float, float, float]:
    gain = comparison.gain
    assert gain is not None
    assert gain.low is not None
    assert gain.high is not None
    return gain.difference, gain.low, gain.high


def test_the_winner_has_the_best_mean_and_not_the_best_value() -> None:
    lucky = candidate("trial 4", 0.99, 0.80, 0.81)

    comparison = compare_seeds([lucky, SLIGHT, START], "accuracy")

    assert comparison.winner is SLIGHT


def test_a_clear_gain_is_more_than_noise() -> None:
    comparison = compare_seeds([CLEAR, START], "accuracy")

    difference, low, _ = numbers(comparison)
    assert difference == pytest.approx(fmean(CLEAR.values) - fmean(START.values))
    assert low > 0
    assert comparison.verdict == (
        "Trial 7 has the best mean validation accuracy, 0.9523 over 3 seeds. That is 0.0473 better than the starting "
        "point (95 % interval 0.0370 to 0.0577): more than seed noise."
    )


def test_a_slight_gain_may_be_noise() -> None:
    comparison = compare_seeds([SLIGHT, START], "accuracy")

    difference, low, _ = numbers(comparison)
    assert difference > 0 > low
    assert comparison.verdict.endswith("): seed noise alone may explain it.")


def test_of_a_loss_the_lowest_mean_wins_and_its_gain_is_positive() -> None:
    worse, better = candidate("trial 1", 0.5, 0.52, 0.51), candidate("trial 2", 0.2, 0.22, 0.21)
    comparison = compare_seeds([worse, better, candidate("starting point", 0.4, 0.41, 0.42)], "loss")

    assert comparison.winner is better
    assert numbers(comparison)[0] == pytest.approx(0.2)
    assert comparison.gain is not None
    assert comparison.gain.exceeds_noise


seeds = st.lists(st.floats(0, 1).map(lambda value: round(value, 4)), min_size=2, max_size=6)


@given(seeds, seeds)
def test_the_interval_is_welchs(first: list[float], second: list[float]) -> None:
    comparison = compare_seeds([candidate("trial 1", *first), candidate("starting point", *second)], "accuracy")
    if comparison.gain is None or comparison.gain.low is None or min(len(set(first)), len(set(second))) < 2:
        return  # SciPy warns of a group without variation; it has tests of its own below

    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)

    assert numbers(comparison)[1:] == pytest.approx((expected.low, expected.high))


def test_the_interval_is_wider_where_the_winner_was_picked_from_more() -> None:
    alone = numbers(compare_seeds([CLEAR, START], "accuracy"))
    picked = compare_seeds([CLEAR, SLIGHT, START], "accuracy")

    difference, low, high = numbers(picked)
    assert difference == alone[0]
    assert low < alone[1] < alone[2] < high
    assert "widened for the choice among 2" in picked.verdict


def test_pure_noise_is_seldom_called_a_gain() -> None:
    noise = random.Random(0)

    def found() -> bool:
        labels = ("trial 1", "trial 2", "trial 3", "starting point")
        candidates = [candidate(label, *(noise.gauss() for _ in range(3))) for label in labels]
        comparison = compare_seeds(candidates, "accuracy")
        return comparison.gain is not None and bool(comparison.gain.exceeds_noise)

    # One side of a 95 % interval: at most 2.5 %, here with room for chance.
    assert sum(found() for _ in range(400)) <= 20


def test_where_the_starting_point_wins_it_is_said_and_nothing_is_gained() -> None:
    comparison = compare_seeds([SLIGHT, candidate("starting point", 0.93, 0.94)], "accuracy")

    assert comparison.winner is comparison.start
    assert comparison.gain is None
    assert comparison.verdict == (
        "The starting point has the best mean validation accuracy, 0.9350 over 2 seeds: no configuration that was "
        "found does better, and the settings stay as written."
    )


def test_where_a_candidate_is_only_as_good_the_settings_stay_as_written() -> None:
    comparison = compare_seeds([candidate("trial 2", 0.9, 0.8), candidate("starting point", 0.8, 0.9)], "accuracy")

    assert comparison.winner is comparison.start


def test_a_candidate_that_failed_with_any_seed_cannot_win() -> None:
    broken = candidate("trial 5", 0.99, 0.99, failures=("seed 2: the loss is no longer finite",))

    comparison = compare_seeds([broken, CLEAR, START], "accuracy")

    assert comparison.winner is CLEAR
    assert comparison.gain is not None
    assert comparison.gain.compared == 1


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (candidate("starting point", 0.9, failures=("seed 1: too high",)), "seed 1: too high"),
        (candidate("starting point"), "it was not trained"),
    ],
)
def test_a_starting_point_that_failed_leaves_nothing_to_compare(start: Candidate, reason: str) -> None:
    comparison = compare_seeds([CLEAR, start], "accuracy")

    assert comparison.winner is CLEAR
    assert comparison.gain is None
    assert comparison.verdict.endswith(f"The starting point cannot be compared with it: {reason}.")


def test_without_a_starting_point_there_is_nothing_to_compare() -> None:
    comparison = compare_seeds([SLIGHT, CLEAR], "accuracy")

    assert comparison.winner is CLEAR
    assert comparison.gain is None
    assert "were not trained again: there is nothing to compare it with" in comparison.verdict


def test_where_every_candidate_failed_nobody_wins_and_the_first_reason_is_shown() -> None:
    failed = [candidate("trial 5", failures=("reason 5",)), candidate("starting point", failures=("reason 0",))]

    comparison = compare_seeds(failed, "accuracy")

    assert comparison.winner is None
    assert comparison.verdict == "Every candidate failed when it was trained again, the first with: reason 5."


@pytest.mark.parametrize(
    ("values", "written"),
    [((0.9, 0.9, 0.9), (0.8, 0.8, 0.8)), ((0.9,), (0.8, 0.81)), ((0.9, 0.91), (0.8,)), ((0.1,) * 3, (0.05,) * 3)],
)
def test_without_noise_to_judge_by_there_is_no_interval(values: tuple[float, ...], written: tuple[float, ...]) -> None:
    comparison = compare_seeds([candidate("trial 1", *values), candidate("starting point", *written)], "accuracy")

    assert comparison.gain is not None
    assert (comparison.gain.low, comparison.gain.high, comparison.gain.exceeds_noise) == (None, None, None)
    assert "whether by luck cannot be said" in comparison.verdict


def test_a_starting_point_without_variation_is_compared_with_a_winner_that_has_some() -> None:
    comparison = compare_seeds([CLEAR, candidate("starting point", 0.9, 0.9, 0.9)], "accuracy")

    difference, low, high = numbers(comparison)
    assert low < difference < high
    assert low > 0


def test_two_seeds_are_enough_for_an_interval() -> None:
    comparison = compare_seeds([candidate("trial 1", 0.95, 0.96), candidate("starting point", 0.9, 0.91)], "accuracy")

    difference, low, high = numbers(comparison)
    assert low < difference < high


def test_the_evidence_is_json_with_every_value_it_rests_on() -> None:
    broken = candidate("trial 5", failures=("why",))
    found = json.loads(json.dumps(compare_seeds([CLEAR, broken, START], "accuracy").as_dict(), allow_nan=False))

    assert (found["winner"], found["monitor"], found["split"]) == ("trial 7", "accuracy", "validation")
    assert [each["label"] for each in found["candidates"]] == ["trial 7", "trial 5", "starting point"]
    assert found["candidates"][0]["mean"] == pytest.approx(0.95233, abs=1e-5)
    assert found["candidates"][0]["sd"] == pytest.approx(0.00252, abs=1e-5)
    assert found["candidates"][0]["settings"] == {"train.lr": 0.08}
    assert found["candidates"][1] == {
        "label": "trial 5",
        "trial": 5,
        "settings": {"train.lr": 0.06},
        "mean": None,
        "sd": None,
        "n": 0,
        "values": [],
        "failures": ["why"],
    }
    assert found["gain"]["exceeds_noise"] is True
    assert found["gain"]["confidence"] == 0.95
    assert found["verdict"].startswith("Trial 7 has the best mean")


def test_where_nothing_was_trained_again_the_lead_may_be_luck() -> None:
    found = compare_seeds([], "loss").as_dict()

    assert (found["winner"], found["gain"], found["candidates"]) == (None, None, [])
    assert found["verdict"] == "No configuration was trained again with other seeds: its lead may be luck."
