"""What people read of a comparison says what was found, whatever the classes are called."""

import json
import re

import numpy as np
import pytest

from darkroom.evaluation.comparison import Comparison
from darkroom.evaluation.comparison_report import DISAGREEMENT, MAX_CLASSES, ComparisonReport, Side, disagreement_rows
from darkroom.evaluation.latency import Latency
from darkroom.evaluation.predictions import SplitPredictions

SIDES = (
    Side("version 1", "a" * 32, 2_000_000, Latency(2.0, 3.0, 1), 1_000.0),
    Side("version 2", "b" * 32, 1_000_000, Latency(1.0, 2.0, 1), 3_000.0),
)


def report(both, losses, gains, neither=0, *, classes=("cat", "dog"), checks=()):
    """Two models of whom each alone is right so often, over all classes in turn."""
    kinds = np.repeat([0, 1, 2, 3], [both, losses, gains, neither])
    labels = np.arange(len(kinds)) % len(classes)
    names = tuple(map(str, range(len(kinds))))
    confidence = np.full(len(kinds), 0.75)
    first, second = (
        SplitPredictions(
            tuple(classes), names, labels, np.where(right, labels, (labels + 1) % len(classes)), confidence
        )
        for right in (kinds <= 1, (kinds == 0) | (kinds == 2))
    )
    return ComparisonReport(Comparison(first, second), *SIDES, alpha=0.05, bins=10, checks=checks)


@pytest.mark.parametrize(
    ("counts", "beginning", "end"),
    [
        (
            (80, 2, 18),
            "Version 2 is better: version 2 classifies 98.00 % of the 100 test images correctly, version 1 82.00 % "
            "(+16.00 points, 95 % interval +",
            "); equally good models show such a gain with probability 0.0002.",
        ),
        (
            (80, 18, 2),
            "Version 2 is worse: version 2 classifies 82.00 % of the 100 test images correctly, version 1 98.00 % "
            "(-16.00 points, 95 % interval -",
            "); equally good models show such a loss with probability 0.0002.",
        ),
        ((80, 9, 11), "These images do not show which model is better: version 2 classifies 91.00 %", ")."),
    ],
)
def test_the_headline_says_whether_the_second_model_is_better(counts, beginning, end):
    headline = report(*counts).headline

    assert headline.startswith(beginning)
    assert headline.endswith(end)


def test_the_figures_stand_side_by_side_with_their_change():
    found = {name: rest for name, *rest in report(80, 2, 18).metrics_table}

    assert found["accuracy"] == ["0.8200", "0.9800", "+0.1600"]
    assert found["calibration error"] == ["0.0700", "0.2300", "+0.1600"]
    assert found["size, MB"] == ["2.000", "1.000", "-50%"]
    assert found["latency p50, ms"] == ["2.000", "1.000", "-50%"]
    assert found["latency p95, ms"] == ["3.000", "2.000", "-33%"]
    assert found["images/s, batch 64"] == ["1,000", "3,000", "+200%"]
    assert re.fullmatch(r"\+0\.\d{4} to \+0\.\d{4}", found["95 % interval"][2])


def test_the_table_is_read_by_who_is_right():
    assert report(80, 2, 17, 1).table == [("version 1 right", "80", "2"), ("version 1 wrong", "17", "1")]


def test_classes_are_listed_from_the_largest_change_and_those_without_are_not():
    right = np.ones(40, bool)
    labels = np.arange(40) % 4
    right[[0, 4, 8, 1]] = False  # three of class 0 and one of class 1
    names, confidence = tuple(map(str, range(40))), np.full(40, 0.5)
    classes = ("cat", "dog", "owl", "yak")
    first, second = (
        SplitPredictions(classes, names, labels, np.where(good, labels, 3 - labels), confidence)
        for good in (right, right | True)
    )

    rows = ComparisonReport(Comparison(first, second), *SIDES, alpha=0.05, bins=10).classes

    assert rows == [("cat", "0.7000", "1.0000", "+0.3000"), ("dog", "0.9000", "1.0000", "+0.1000")]


def columns(line):
    """The cells of a line of a Markdown table: a sign after a backslash parts none."""
    return re.split(r"(?<!\\)\|", line.strip("|"))


def tables(markdown):
    return [part.splitlines() for part in markdown.split("\n\n") if part.startswith("|")]


@pytest.mark.parametrize(
    "name", ["a|b", "<b>x</b>", "*bold*", "line\nbreak", "`code`", "@somebody", "[x](y)", "#1", "\\"]
)
def test_class_names_and_findings_cannot_break_the_markdown(name):
    checks = [("class recall", f"{name} -0.1000", "no class loses more than 0.05", "refused")]
    written = report(10, 0, 10, 10, classes=(name, "dog"), checks=checks).markdown()

    found = tables(written)
    assert [len(table) for table in found] == [9, 4, 4, 3]
    for table in found:
        assert len({len(columns(line)) for line in table}) == 1
    cell = columns(next(line for line in found[2] if "dog" not in line and "0." in line))[0]
    shown = re.sub(r"\\(.)", r"\1", cell).strip()
    assert shown == " ".join(name.split())


def test_the_markdown_has_the_gate_where_it_was_asked():
    checks = [("better", "+0.1, p 0.01", "p below 0.05", "passed")]

    assert "| better | +0.1, p 0.01 | p below 0.05 | passed |" in report(80, 2, 18, checks=checks).markdown()
    assert "gate" not in report(80, 2, 18).markdown()


def test_of_many_classes_the_markdown_shows_the_largest_changes():
    written = report(0, 0, 60, classes=[f"class {number}" for number in range(MAX_CLASSES + 3)]).markdown()

    assert len(tables(written)[2]) == MAX_CLASSES + 2
    assert "And 3 more with smaller changes" in written


def test_models_that_answer_alike_have_a_report():
    found = report(10, 0, 0, 5)

    assert found.headline.startswith("These images do not show")
    assert "Recall of each class" not in found.markdown()
    assert found.as_json()["disagreement"] == []


def test_each_disagreement_says_whose_answer_is_right():
    labels = np.array([0, 0, 0, 0])
    first, second = (
        SplitPredictions(("cat", "dog", "owl"), ("w", "x", "y", "z"), labels, np.array(predicted), np.array(confidence))
        for predicted, confidence in (([0, 0, 1, 1], [0.5, 0.6, 0.7, 0.8]), ([0, 1, 0, 2], [0.1, 0.2, 0.3, 0.4]))
    )

    assert DISAGREEMENT == ("image", "actual", "a", "a_confidence", "b", "b_confidence", "right")
    assert disagreement_rows(Comparison(first, second)) == [
        ("x", "cat", "cat", 0.6, "dog", 0.2, "a"),
        ("y", "cat", "dog", 0.7, "cat", 0.3, "b"),
        ("z", "cat", "dog", 0.8, "owl", 0.4, "neither"),
    ]


def test_the_report_is_plain_json():
    found = json.loads(json.dumps(report(80, 2, 17, 1).as_json(), allow_nan=False))

    assert found["a"]["name"] == "version 1"
    assert found["b"]["latency"] == {"p50_ms": 1.0, "p95_ms": 2.0, "threads": 1}
    # The classes come in turn: 9 of the 17 gains and one loss are cats.
    assert found["confusion"]["difference"] == [[8, -8], [-7, 7]]
    assert found["table"]["images"] == [[80, 2], [17, 1]]
    assert found["disagreements"] == len(found["disagreement"]) == 19
