"""Slices are tested against the other images, and named only where chance is no explanation."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, fisher_exact
from tests.unit.evaluation.simulated_slices import CASES, Case

from darkroom.evaluation.metrics import accuracy_interval
from darkroom.evaluation.slices import ALPHA, as_json, describe_named, find_slices, holm, large_slices

ONCE_IN_A_MILLION = 1e-6


def column(**counts: int) -> np.ndarray:
    """So many images of each value, one after another."""
    return np.repeat(list(counts), list(counts.values())).astype(object)


def right_but(wrong: dict[int, int], images: int) -> np.ndarray:
    """Right answers, but for so many images from each row on."""
    correct = np.ones(images, bool)
    for row, count in wrong.items():
        correct[row : row + count] = False
    return correct


def test_each_slice_has_its_accuracy_with_an_interval_the_worst_first() -> None:
    # Camera a: 5 of 100 wrong; b: 20 of 50; c: none of 30.
    correct = right_but({0: 5, 100: 20}, 180)
    found = find_slices(correct, large_slices({"camera": column(a=100, b=50, c=30)}))

    assert [(each.attribute, each.value, each.images) for each in found] == [
        ("camera", "b", 50),
        ("camera", "a", 100),
        ("camera", "c", 30),
    ]
    assert [each.accuracy for each in found] == pytest.approx([0.6, 0.95, 1.0])
    assert [(each.accuracy_low, each.accuracy_high) for each in found] == [
        pytest.approx(accuracy_interval(*counts)) for counts in ((30, 50), (95, 100), (30, 30))
    ]


def test_a_slice_is_tested_by_fishers_exact_test_against_all_other_images() -> None:
    correct = right_but({0: 5, 100: 20}, 180)
    found = find_slices(correct, large_slices({"camera": column(a=100, b=50, c=30)}))

    tables = {"a": [[5, 95], [20, 60]], "b": [[20, 30], [5, 125]], "c": [[0, 30], [25, 125]]}
    for each in found:
        assert each.p == pytest.approx(fisher_exact(tables[each.value], alternative="greater").pvalue, rel=1e-9)


def test_the_correction_is_that_of_holm() -> None:
    # Three tests: the smallest times 3, the next times 2, the last times 1, and none below the one before.
    assert holm(np.array([0.02, 0.01, 0.03])) == pytest.approx([0.04, 0.03, 0.04])
    assert holm(np.array([0.9, 0.4])) == pytest.approx([0.9, 0.8])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1.0, 1.0])


def test_the_more_slices_are_looked_at_the_clearer_one_has_to_be() -> None:
    correct = right_but({0: 4, 30: 3}, 300)
    own = {"camera": column(a=30, b=270)}
    # Of 30 images of camera a 4 are wrong, of all others 3: p is 0.002.
    many = {f"column {number}": np.roll(column(c=150, d=150), number) for number in range(10)}

    alone = [str(each) for each in find_slices(correct, large_slices(own)) if each.is_named]
    among = [str(each) for each in find_slices(correct, large_slices(own | many)) if each.is_named]

    assert (alone, among) == (["camera a"], [])


def test_small_slices_and_images_in_none_are_not_looked_at() -> None:
    values = np.concatenate([column(a=20, b=19), np.array([""] * 40, dtype=object)])

    assert [(value, len(rows)) for _, value, rows in large_slices({"camera": values})] == [("a", 20)]


def test_what_all_images_have_in_common_is_no_slice() -> None:
    assert list(large_slices({"camera": column(a=50)})) == []
    assert find_slices(np.ones(50, bool), []) == []


def test_the_rows_of_a_slice_are_those_of_its_images() -> None:
    values = np.array(["a", "b"] * 30, dtype=object)
    found = {value: rows.tolist() for _, value, rows in large_slices({"camera": values})}

    assert found == {"a": list(range(0, 60, 2)), "b": list(range(1, 60, 2))}


def test_the_worst_named_slice_of_each_attribute_is_told_in_a_line() -> None:
    # Of camera a 40 of 50 images are wrong, of b 30, of c none; the site k has the first 75 of these.
    correct = right_but({0: 40, 50: 30}, 1_000)
    slicing = {"camera": column(a=50, b=50, c=900), "site": column(k=75, l=925)}
    low, high = accuracy_interval(10, 50)

    line = describe_named(find_slices(correct, large_slices(slicing)))

    assert line.startswith("the accuracy is lower on 3 of 5 slices of the test split: site k 13.3% of 75 images (")
    assert line.endswith(f"), camera a 20.0% of 50 images ({low:.1%} to {high:.1%}) and 1 more")
    assert describe_named(find_slices(np.ones(1_000, bool), large_slices({"camera": column(a=500, b=500)}))) == ""


def test_the_file_has_what_was_found_and_what_was_not_looked_at() -> None:
    correct = right_but({0: 5, 100: 20}, 180)
    found = find_slices(correct, large_slices({"camera": column(a=100, b=50, c=30)}))

    written = as_json(found, correct, {"patient": 150})

    assert (written["images"], written["accuracy"], written["left_out"]) == (180, 155 / 180, {"patient": 150})
    assert [(each["value"], each["named"]) for each in written["slices"]] == [("b", True), ("a", False), ("c", False)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_planted_slice_is_named_and_seldom_another(case: Case, long: bool) -> None:
    runs = 1_000 if long else 100
    named = case.named(runs)

    assert named.planted >= 0.95 * runs
    assert named.others <= binom.ppf(1 - ONCE_IN_A_MILLION, runs, ALPHA)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_slice_is_named_where_none_is_planted(case: Case, long: bool) -> None:
    runs = 1_000 if long else 100

    assert replace(case, drop=0.0).named(runs).any <= 0.05 * runs
