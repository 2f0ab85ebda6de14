"""The gate: every rule is listed with what it found, and each one can refuse."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unit.promotion.fakes import answers, evaluated, labels_of, table

from darkroom.config.settings import Gate
from darkroom.data.digests import content_digest, stack
from darkroom.errors import TrackingError
from darkroom.evaluation.comparison import lower_bound
from darkroom.evaluation.latency import Latency
from darkroom.evaluation.robustness import Accuracy, CorruptionAccuracy, Robustness
from darkroom.promotion.gate import evaluate_gate
from darkroom.tracking.runs import ROBUSTNESS_TAG

NOWHERE = Path("no cache")
ABSOLUTE = ["accuracy", "robust_accuracy", "calibration", "latency", "size", "export"]
PAIRED = [
    "same_data",
    "accuracy",
    "better",
    "class_recall",
    "slice_accuracy",
    "robust_accuracy",
    "calibration",
    "latency",
    "size",
    "export",
]


def judged(challenger, champion=None, *, cache=NOWHERE, **settings):
    return evaluate_gate(Gate(**settings), challenger, champion, bins=10, cache=cache)


def rivals(both, losses, gains, neither=0, **challenger):
    """A challenger and a champion, of whom each alone answers so many images rightly."""
    before, after = table(both, losses, gains, neither)
    return evaluated(answers(after), **challenger), evaluated(answers(before), version="1")


def check(verdict, rule):
    return next(each for each in verdict.checks if each.rule == rule)


def test_without_a_champion_the_absolute_rules_are_asked():
    verdict = judged(evaluated(answers([True] * 9 + [False])))

    assert [each.rule for each in verdict.checks] == ABSOLUTE
    assert verdict.passed
    assert (verdict.challenger, verdict.champion) == ("version 2", None)


def test_beside_a_champion_every_rule_is_listed_whether_or_not_it_is_required():
    verdict = judged(*rivals(900, 5, 30, 65))

    assert [each.rule for each in verdict.checks] == PAIRED
    assert verdict.passed
    assert {each.rule: (each.value, each.required) for each in verdict.checks[-5:]} == {
        "robust_accuracy": ("not measured", "no limit"),
        "calibration": ("0.0300", "no limit"),
        "latency": ("not measured", "no limit"),
        "size": ("1.000 MB", "no limit"),
        "export": ("not asked", "no limit"),
    }


@pytest.mark.parametrize(("minimum", "passed"), [(0.89, True), (0.9, True), (0.91, False)])
def test_a_minimum_accuracy_is_required_of_the_first_too(minimum, passed):
    verdict = judged(evaluated(answers([True] * 9 + [False])), min_accuracy=minimum)

    assert verdict.passed == passed
    assert check(verdict, "accuracy").value == "0.9000"


def test_a_model_of_other_data_is_refused_where_the_contents_of_its_images_are_not_known():
    challenger, champion = rivals(10, 0, 90, fingerprint="e" * 64)
    verdict = judged(challenger, champion)

    assert [(each.rule, each.passed) for each in verdict.checks] == [("same_data", False)]
    assert verdict.checks[0].value.startswith(f"dataset {'e' * 12}, the champion's {'f' * 12}: the contents of their")
    assert verdict.is_of_other_data


def shared(challenger, champion, first=0):
    """The same models, of other data: the challenger has the champion's test images from ``first`` on."""
    digests = stack(content_digest(str(number).encode()) for number in range(2 * len(champion.answers.labels)))
    own = len(champion.answers.labels)
    return (
        replace(challenger, answers=replace(challenger.answers, digests=digests[first : first + own])),
        replace(champion, answers=replace(champion.answers, digests=digests[:own])),
    )


def test_a_model_of_other_data_meets_the_champion_on_the_test_images_of_both():
    verdict = judged(*shared(*rivals(900, 5, 30, 65, fingerprint="e" * 64)))

    assert [each.rule for each in verdict.checks] == PAIRED
    assert verdict.passed
    found = check(verdict, "same_data")
    assert found.value == "1,000 test images are in both test splits (1,000 and 1,000 images)"
    assert found.required == "the champion's, or 5 test images in both"
    assert verdict.findings["statistics"]["table"]["images"] == [[900, 5], [30, 65]]


@pytest.mark.parametrize(
    ("alpha", "count", "passed"), [(0.05, 5, True), (0.05, 4, False), (0.01, 7, True), (0.01, 6, False)]
)
def test_too_few_shared_test_images_are_refused_and_not_compared(alpha, count, passed):
    # The challenger is right on all of them and the champion on none.
    challenger = evaluated(answers([True] * 100), fingerprint="e" * 64)
    champion = evaluated(answers([False] * 100), version="1")
    challenger, champion = shared(challenger, champion, first=100 - count)
    # Of the same classes as they are for the champion.
    labels = np.roll(labels_of(100), count)
    challenger = replace(challenger, answers=replace(challenger.answers, labels=labels, predicted=labels))

    verdict = judged(challenger, champion, alpha=alpha)

    assert check(verdict, "same_data").passed == passed == verdict.passed
    assert check(verdict, "same_data").value.startswith(f"{count} test images are in both test splits (100 and 100 ")
    assert len(verdict.checks) == (len(PAIRED) if passed else 1)
    assert verdict.findings["pairing"]["shared"] == count
    assert verdict.is_of_other_data


def test_a_class_without_shared_images_is_not_the_one_that_lost_most():
    # The images of "class 1" are of another class for the champion, so none of them counts.
    challenger, champion = shared(*rivals(10, 0, 90, fingerprint="e" * 64))
    known = champion.answers
    labels = np.where(known.labels == 1, 2, known.labels)
    champion = replace(champion, answers=replace(known, labels=labels))

    verdict = judged(challenger, champion)

    assert verdict.findings["pairing"]["relabeled"] == 10
    assert not check(verdict, "class_recall").value.startswith("class 1 ")


def test_models_of_the_same_data_are_not_said_to_be_of_other_data():
    assert not judged(*rivals(10, 0, 90)).is_of_other_data
    assert not judged(evaluated(answers([True] * 10))).is_of_other_data


def test_answers_for_other_test_images_are_refused_and_not_compared():
    verdict = judged(evaluated(answers([True] * 100)), evaluated(answers([False] * 90), version="1"))

    assert [(each.rule, each.passed) for each in verdict.checks] == [("same_data", False)]
    assert verdict.checks[0].value == "test images differ (90 and 100 of them)"


# (gains + losses, gains) and the one-sided p: sums of binomial coefficients over a power of two.
@pytest.mark.parametrize(
    ("losses", "gains", "p"),
    [(0, 4, 1 / 16), (0, 5, 1 / 32), (1, 7, 9 / 256), (2, 8, 56 / 1024), (5, 0, 1.0), (0, 0, 1.0)],
)
def test_better_is_what_the_exact_test_finds(losses, gains, p):
    verdict = judged(*rivals(500, losses, gains, 100), alpha=0.05)

    assert check(verdict, "better").passed == (p < 0.05) == verdict.passed
    assert verdict.findings["statistics"]["p_better"] == pytest.approx(p)
    assert check(verdict, "better").value.endswith(f"p {p:.3g}")


def test_a_smaller_alpha_asks_for_more():
    contest = rivals(500, 0, 5, 100)

    assert judged(*contest, alpha=0.04).passed
    assert not judged(*contest, alpha=0.03).passed


def taking(milliseconds):
    """A model that takes so long for one image, and half as long again for the slowest."""

    def network(images):
        return images.float()

    network.latency = Latency(milliseconds, 1.5 * milliseconds, 1)
    return network


@pytest.fixture
def clock(monkeypatch):
    """Latencies as the models have them, without a clock."""
    monkeypatch.setattr("darkroom.evaluation.latency.latencies", lambda models, *_: [each.latency for each in models])


EQUALLY_GOOD = (9_000, 10, 10, 980)
OPEN = (500, 10, 10, 100)  # as good, but 620 images do not show it


@pytest.mark.parametrize(
    ("counts", "gain", "size", "passed"),
    [
        (EQUALLY_GOOD, "smaller", 800_000, True),
        (EQUALLY_GOOD, "smaller", 800_001, False),
        (EQUALLY_GOOD, "none", 500_000, False),
        (OPEN, "smaller", 500_000, False),
        ((9_000, 100, 10, 890), "smaller", 500_000, False),
    ],
)
def test_a_smaller_model_may_be_as_good(counts, gain, size, passed):
    verdict = judged(*rivals(*counts, size=size), gain=gain, margin=0.005, min_gain=0.2)

    assert check(verdict, "better").passed == passed


def test_the_check_tells_what_a_smaller_model_gains():
    found = check(judged(*rivals(*EQUALLY_GOOD, size=600_000), gain="smaller"), "better")

    assert found.value == f"+0.0000, p 0.588, at worst {lower_bound(10, 10, 10_000, 0.05):+.4f}, size -40%"
    assert found.required == "p below 0.05, or at worst -0.005 with size -20%"


@pytest.mark.parametrize(
    ("gain", "milliseconds", "size", "passed"),
    [
        ("faster", 8.0, 1_000_000, True),
        ("faster", 8.1, 500_000, False),
        ("any", 8.0, 1_000_000, True),
        ("any", 8.1, 800_000, True),
        ("any", 8.1, 800_001, False),
    ],
)
def test_a_faster_model_may_be_as_good(clock, gain, milliseconds, size, passed):
    challenger, champion = rivals(*EQUALLY_GOOD, network=taking(milliseconds), size=size)
    slow = evaluated(champion.answers, version="1", network=taking(10.0))

    verdict = judged(challenger, slow, gain=gain, min_gain=0.2)

    assert check(verdict, "better").passed == passed
    assert f"latency {milliseconds / 10 - 1:+.0%}" in check(verdict, "better").value
    assert verdict.findings["latency"]["challenger"] == {
        "p50_ms": milliseconds,
        "p95_ms": 1.5 * milliseconds,
        "threads": 1,
    }


def fails(images):
    raise AssertionError("the model was asked")


@pytest.mark.parametrize(
    ("counts", "gain"), [((500, 0, 20, 0), "faster"), (OPEN, "faster"), (EQUALLY_GOOD, "smaller"), (OPEN, "none")]
)
def test_latency_is_measured_only_where_the_verdict_hangs_on_it(counts, gain):
    verdict = judged(*rivals(*counts, network=fails), gain=gain)

    assert check(verdict, "latency").value == "not measured"
    assert "latency" not in verdict.findings


@pytest.mark.parametrize(("limit", "passed"), [(15.0, True), (14.9, False)])
def test_a_budget_of_time_is_for_the_slowest_of_single_images(clock, limit, passed):
    found = check(judged(evaluated(answers([True] * 10), network=taking(10.0)), max_latency_ms=limit), "latency")

    assert (found.value, found.required, found.passed) == ("15.000 ms", f"at most {limit:g}", passed)


@pytest.mark.parametrize(("size", "passed"), [(500_000, True), (500_001, False)])
def test_a_budget_of_size_is_in_megabytes(size, passed):
    assert judged(evaluated(answers([True] * 10), size=size), max_size_mb=0.5).passed == passed


@pytest.mark.parametrize(("confidence", "passed"), [(0.85, True), (0.99, False)])
def test_an_overconfident_model_is_refused_where_there_is_a_limit(confidence, passed):
    challenger = evaluated(answers([True] * 9 + [False], confidence=confidence))

    assert judged(challenger, max_calibration_error=0.06).passed == passed
    assert judged(challenger).passed


@pytest.mark.parametrize(("limit", "passed"), [(None, True), (0.7, True), (0.71, False)])
def test_a_minimum_accuracy_on_corrupted_images_is_asked_of_what_was_registered(tmp_path, limit, passed):
    found = Accuracy(0.7, 0.6, 0.8)
    blur = CorruptionAccuracy("blur", "pixels", (1.0,), found, (found,))
    Robustness(9, Accuracy(0.9, 0.8, 1.0), found, (blur,)).write(tmp_path / "robustness.json")
    plain = evaluated(answers([True] * 10))
    contender = replace(plain.contender, tags={**plain.contender.tags, ROBUSTNESS_TAG: "a digest"})

    verdict = judged(replace(plain, contender=contender, report=tmp_path), min_robust_accuracy=limit)

    assert (verdict.passed, check(verdict, "robust_accuracy").value) == (passed, "0.7000")


def test_a_model_without_an_accuracy_on_corrupted_images_is_refused_with_what_measures_it():
    found = check(judged(evaluated(answers([True] * 10)), min_robust_accuracy=0.1), "robust_accuracy")

    assert not found.passed
    assert found.value == "not measured; set evaluate.corruptions to common and run `dvc repro`"
    assert found.required == "at least 0.1"


def without(number, share, images=10_000):
    """Right everywhere but for the given share of a class."""
    right = np.ones(images, bool)
    rows = np.flatnonzero(labels_of(images) == number)
    right[rows[: round(share * len(rows))]] = False
    return right


def test_no_class_may_be_given_up_for_the_others():
    # Class 3 loses 60 of its 1,000 images, the others gain 500 together.
    before = np.ones(10_000, bool)
    before[labels_of(10_000) == 4] = np.arange(1_000) >= 500
    verdict = judged(evaluated(answers(without(3, 0.06))), evaluated(answers(before), version="1"))

    assert check(verdict, "better").passed
    assert not check(verdict, "class_recall").passed
    assert check(verdict, "class_recall").value == "class 3 -0.0600"
    assert verdict.summary == "class recall class 3 -0.0600, required no class loses more than 0.05"


def test_of_several_classes_that_lost_the_worst_is_named():
    both = without(3, 0.06) & without(7, 0.2) & without(8, 0.1)
    verdict = judged(evaluated(answers(both)), evaluated(answers(np.ones(10_000, bool)), version="1"))

    assert check(verdict, "class_recall").value == "class 7 -0.2000 and 2 more"


def test_a_class_may_lose_what_is_allowed():
    champion = evaluated(answers(np.ones(10_000, bool)), version="1")

    assert check(judged(evaluated(answers(without(3, 0.05))), champion), "class_recall").passed
    assert not check(judged(evaluated(answers(without(3, 0.051))), champion), "class_recall").passed


def test_a_class_without_test_images_loses_nothing_and_is_counted():
    # Two hundred images of ten classes, and two classes that none is of.
    classes = tuple(f"class {number}" for number in range(12))
    labels = labels_of(200)
    before = np.ones(200, bool)
    before[labels == 0] = np.arange(20) >= 10

    def of_twelve(right):
        return replace(answers(right), classes=classes)

    champion = evaluated(of_twelve(before), version="1")
    found = check(judged(evaluated(of_twelve(np.ones(200, bool))), champion), "class_recall")
    worse = judged(evaluated(of_twelve(without(3, 0.3, 200))), champion)

    assert (found.passed, found.value) == (True, "class 1 +0.0000; 2 of 12 classes without test images")
    # The risk is shared among the ten classes that have images: 1/64 is above a tenth of 0.05.
    assert "which may be chance (p 0.016, 20 images)" in check(worse, "class_recall").value
    assert json.loads(json.dumps(worse.as_json(), allow_nan=False))["statistics"]["recall"]["class 11"]["images"] == 0


def test_a_loss_that_may_be_chance_is_refused_and_told_as_such():
    champion = evaluated(answers(np.ones(200, bool)), version="1")

    few = check(judged(evaluated(answers(without(3, 0.3, 200))), champion), "class_recall")
    many = check(judged(evaluated(answers(without(3, 0.4, 200))), champion), "class_recall")

    # Of 20 images 6 are lost: p is 1/64, above a tenth of 0.05; of 8 it is 1/256, below.
    assert (few.passed, few.value) == (False, "class 3 -0.3000, which may be chance (p 0.016, 20 images)")
    assert (many.passed, many.value) == (False, "class 3 -0.4000")


def sliced(found, camera_b, attribute="camera"):
    """Answers whose images are of camera a, but the last ``camera_b`` of them."""
    cameras = np.array(["a"] * (len(found.labels) - camera_b) + ["b"] * camera_b, dtype=object)
    return replace(found, slices={attribute: cameras})


def losing(images, lost):
    """Answers that are right but for the last ``lost``."""
    return answers(np.arange(images) < images - lost)


@pytest.mark.parametrize(("limit", "passed"), [(None, True), (0.11, True), (0.1, True), (0.09, False)])
def test_no_slice_may_lose_more_than_is_allowed(limit, passed):
    champion = evaluated(answers(np.ones(1_000, bool)), version="1")
    challenger = evaluated(sliced(losing(1_000, 10), 100))

    found = check(judged(challenger, champion, max_slice_drop=limit), "slice_accuracy")

    # Of 100 images of camera b ten are lost, all others are right: p is 0.5^10.
    required = "no limit" if limit is None else f"no slice loses more than {limit:g}"
    assert (found.value, found.required, found.passed) == ("camera b -0.1000", required, passed)


def test_a_loss_of_a_slice_that_may_be_chance_is_refused_and_told_as_such():
    champion = evaluated(answers(np.ones(1_000, bool)), version="1")

    few = check(judged(evaluated(sliced(losing(1_000, 5), 50)), champion, max_slice_drop=0.05), "slice_accuracy")
    many = check(judged(evaluated(sliced(losing(1_000, 6), 50)), champion, max_slice_drop=0.05), "slice_accuracy")

    # There are two slices: 0.5^5 is above half of 0.05, 0.5^6 below.
    assert (few.passed, few.value) == (False, "camera b -0.1000, which may be chance (p 0.031, 50 images)")
    assert (many.passed, many.value) == (False, "camera b -0.1200")


def test_slices_are_those_of_the_challenger_on_the_images_that_both_were_tested_on():
    champion = evaluated(answers(np.ones(200, bool)), version="1")
    challenger = evaluated(sliced(losing(200, 30), 80), fingerprint="e" * 64)

    found = check(judged(*shared(challenger, champion, first=20), max_slice_drop=0.2), "slice_accuracy")

    # The last 20 images are not the champion's: of 60 of camera b ten are lost.
    assert (found.value, found.passed) == ("camera b -0.1667", True)


def test_slices_that_are_too_small_to_judge_are_told():
    champion = evaluated(answers(np.ones(100, bool)), version="1")
    verdict = judged(evaluated(sliced(losing(100, 19), 19)), champion, max_slice_drop=0.1)

    # Camera a has 81 images, all right.
    assert (check(verdict, "slice_accuracy").value, verdict.is_of_other_data) == ("camera a +0.0000", False)
    small = judged(evaluated(sliced(losing(30, 15), 15)), evaluated(answers(np.ones(30, bool)), version="1"))
    assert check(small, "slice_accuracy").value == "no slice of 20 images or more"


@pytest.mark.parametrize(("limit", "passed"), [(None, True), (0.05, False)])
def test_a_limit_of_slices_refuses_a_challenger_without_any(limit, passed):
    found = check(judged(*rivals(900, 5, 30, 65), max_slice_drop=limit), "slice_accuracy")

    assert found.passed == passed
    assert found.value == "none is recorded with the challenger; set evaluate.slices and run `dvc repro`"


def reads(images):
    return torch.nn.functional.one_hot(images[:, 0, 0, 0].long(), 10).float()


def test_the_registered_form_must_give_the_recorded_answers(cached):
    cache, fingerprint = cached
    challenger = evaluated(answers([True] * 100), fingerprint=fingerprint, network=reads)

    found = check(judged(challenger, cache=cache, export="pt2"), "export")

    assert (found.value, found.required, found.passed) == (
        "0 of 100 answers differ",
        "pt2 gives every recorded answer",
        True,
    )


def test_answers_that_differ_from_the_recorded_ones_are_counted(cached):
    cache, fingerprint = cached
    recorded = np.ones(100, bool)
    recorded[[5, 50, 99]] = False
    verdict = judged(evaluated(answers(recorded), fingerprint=fingerprint, network=reads), cache=cache, export="pt2")

    assert not verdict.passed
    assert check(verdict, "export").value == "3 of 100 answers differ"


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_registered_form_is_asked_in_batches_of_several_sizes(cached, size):
    def network(images):
        return -reads(images) if len(images) == size else reads(images)

    cache, fingerprint = cached
    challenger = evaluated(answers([True] * 100), fingerprint=fingerprint, network=network)

    assert not judged(challenger, cache=cache, export="pt2").passed


def test_a_form_that_takes_one_image_only_gives_no_answer(cached):
    def network(images):
        assert len(images) == 1, "Guard failed: x.size()[0] == 1"
        return reads(images)

    cache, fingerprint = cached
    challenger = evaluated(answers([True] * 100), fingerprint=fingerprint, network=network)

    assert check(judged(challenger, cache=cache, export="pt2"), "export").value == "100 of 100 answers differ"


def test_the_form_cannot_be_asked_without_the_images(cached):
    cache, _ = cached
    challenger = evaluated(answers([True] * 100), network=reads)

    with pytest.raises(
        TrackingError, match=r"^no cache: does not hold the test images of version 2 \(dataset f{12}\); run `dvc"
    ):
        judged(challenger, export="pt2")
    with pytest.raises(TrackingError, match=r"\(dataset f{12}, found [0-9a-f]{12}\); run `dvc repro preprocess`$"):
        judged(challenger, cache=cache, export="pt2")


def test_the_verdict_is_told_as_tags_and_as_json():
    verdict = judged(*rivals(900, 5, 30, 65), max_size_mb=0.5)

    tags = verdict.tags()
    assert tags["gate.verdict"] == "refused: size"
    assert tags["gate.size"] == "refused: 1.000 MB (at most 0.5)"
    assert tags["gate.better"] == "passed: +0.0250, p 1.12e-05 (p below 0.05)"
    assert tags.keys() == {"gate.verdict", *(f"gate.{rule}" for rule in PAIRED)}
    found = json.loads(json.dumps(verdict.as_json(), allow_nan=False))
    assert found["passed"] is False
    assert [each["rule"] for each in found["checks"]] == PAIRED
    assert found["settings"]["max_size_mb"] == 0.5
    assert found["statistics"]["table"]["images"] == [[900, 5], [30, 65]]
    assert found["digests"]["champion"]["darkroom.fingerprint"] == "f" * 64


def test_a_verdict_that_passes_says_so():
    verdict = judged(evaluated(answers([True] * 10)))

    assert (verdict.tags()["gate.verdict"], verdict.summary) == ("passed", "passed the gate")
