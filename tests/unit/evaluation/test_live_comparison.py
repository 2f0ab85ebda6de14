"""What live answers of two models say, with labels and without."""

import pytest

from darkroom.evaluation.live_comparison import LiveComparison, count_outcomes


def comparison(**changes):
    found = {"images": 1_000, "different": 100, "pictures": 100, "labeled": 0, "losses": 0, "gains": 0}
    return LiveComparison("3", "4", **(found | changes), alpha=0.05)


def test_pictures_are_joined_with_their_labels_and_others_say_nothing():
    answers = [("a", "cat", "dog"), ("b", "dog", "cat"), ("c", "cat", "dog"), ("d", "cat", "dog"), ("e", "cat", "dog")]
    labels = {"a": "cat", "b": "cat", "c": "owl", "d": "dog", "f": "dog"}
    assert count_outcomes(answers, labels) == (4, 1, 2)


@pytest.mark.parametrize(
    ("changes", "verdict", "headline"),
    [
        ({"images": 0, "different": 0, "pictures": 0}, "undecided", "Version 4 has not answered any live picture yet."),
        ({}, "undecided", "Version 4 answers 100 of 1,000 live pictures differently from version 3; labels will say"),
        (
            {"labeled": 20, "losses": 8, "gains": 10},
            "undecided",
            "Not decided yet: version 4 is right on 10 of the 18 pictures on which only one version is (",
        ),
        (
            {"labeled": 90, "losses": 10, "gains": 70},
            "better",
            "Version 4 is better than version 3: version 4 is",
        ),
        ({"labeled": 90, "losses": 70, "gains": 10}, "worse", "Version 4 is worse than version 3: version 4 is"),
    ],
)
def test_the_headline_says_what_is_known(changes, verdict, headline):
    found = comparison(**changes)
    assert found.verdict == found.as_json()["verdict"] == verdict
    assert found.headline.startswith(headline)


def test_the_difference_is_that_of_all_live_pictures():
    # Of a tenth of the pictures, those with two answers, half have a label; of these 50 it gains 20 more than it loses.
    assert comparison(labeled=50, losses=10, gains=30).difference == pytest.approx(0.1 * 20 / 50)
    assert comparison().difference is None


def test_answers_of_a_server_that_was_restarted_still_decide():
    found = comparison(images=0, different=0, labeled=90, losses=10, gains=70)
    assert found.headline.startswith("Version 4 is better")
    assert found.difference is None
