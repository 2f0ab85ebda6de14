"""What is fitted on the validation split: a temperature that calibrates, and where images become unlike the others."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from darkroom.data.glyph_layout import GlyphLayout
from darkroom.errors import ModelError
from darkroom.evaluation.metrics import expected_calibration_error
from darkroom.evaluation.reference import (
    UNLIKE_SHARE,
    Reference,
    calibrated,
    energies,
    fit_reference,
    fit_temperature,
)


def drawn(images, classes=5, seed=0):
    """Logits that are calibrated as they are, and labels drawn from the probabilities that they say."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (images, classes))
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (chances.cumsum(1) > generator.random((images, 1))).argmax(1)
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_how_much_too_sharp_the_logits_are(sharpness):
    logits, labels = drawn(20_000)
    assert fit_temperature(logits * sharpness, labels) == pytest.approx(sharpness, rel=0.05)


def test_calibrated_probabilities_of_other_images_are_as_often_right_as_they_say():
    logits, labels = drawn(20_000)
    others, truth = drawn(20_000, seed=1)
    temperature = fit_temperature(logits * 3, labels)
    error = {}
    for name, probabilities in (("raw", calibrated(others * 3, 1)), ("fitted", calibrated(others * 3, temperature))):
        error[name] = expected_calibration_error(probabilities.max(1), probabilities.argmax(1) == truth, 15)
    assert error["raw"] > 0.1
    assert error["fitted"] < 0.02


def test_the_temperature_has_a_higher_likelihood_than_its_neighbors():
    logits, labels = drawn(5_000)
    logits *= 2
    best = fit_temperature(logits, labels)

    def likelihood(temperature):
        return np.log(calibrated(logits, temperature)[np.arange(len(labels)), labels]).sum()

    assert likelihood(best) > max(likelihood(best * 1.05), likelihood(best / 1.05), likelihood(1.0))


def test_without_a_mistake_the_temperature_stays_one():
    logits, _ = drawn(200)
    assert fit_temperature(logits, logits.argmax(1)) == 1


def test_logits_that_prefer_no_class_keep_the_temperature_one():
    assert fit_temperature(np.full((50, 3), 7, np.float32), np.arange(50) % 3) == 1


def test_a_few_images_cannot_make_the_temperature_extreme():
    logits = np.array([[9, 0], [0, 9], [9, 0], [0.1, 0]], np.float32)
    assert 0.3 < fit_temperature(logits, np.array([0, 1, 0, 1])) < 3


def test_a_model_that_is_always_wrong_is_made_unsure():
    logits, _ = drawn(500)
    assert calibrated(logits, fit_temperature(logits, logits.argmin(1))).max(1).mean() < 0.3


REALS = st.floats(-1e4, 1e4, width=32)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_the_logits_all_figures_are_finite(data):
    images, classes = data.draw(st.integers(1, 12)), data.draw(st.integers(2, 5))
    logits = data.draw(hnp.arrays(np.float32, (images, classes), elements=REALS))
    labels = data.draw(hnp.arrays(np.int64, images, elements=st.integers(0, classes - 1)))
    found = fit_reference(logits, labels)
    assert 0 < found.temperature < np.inf
    assert 1 / classes - 1e-9 <= found.confidence <= 1 + 1e-9
    assert np.isfinite(found.energy_threshold)
    assert sum(found.class_shares) == pytest.approx(1)
    assert 0 <= found.unlike_share <= UNLIKE_SHARE


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, (4, 3), elements=REALS), st.floats(0.05, 20))
def test_probabilities_sum_to_one_and_keep_the_order_of_the_logits(logits, temperature):
    found = calibrated(logits, temperature)
    assert found.sum(1) == pytest.approx(np.ones(4))
    rows = np.arange(4)
    assert found[rows, logits.argmax(1)].tolist() == found.max(1).tolist()


def test_the_energy_is_low_where_a_class_is_suggested_strongly():
    sure, torn, lost = energies(np.array([[12, 0, 0], [12, 12, 0], [0, 0, 0]], np.float32))
    assert torn < sure < lost
    assert lost == pytest.approx(-np.log(3))


def test_about_one_image_in_a_hundred_lies_above_the_threshold_here_and_among_others():
    logits, labels = drawn(10_000)
    found = fit_reference(logits, labels)
    assert found.unlike_share == pytest.approx(UNLIKE_SHARE, rel=0.02)
    others, _ = drawn(10_000, seed=1)
    assert (energies(others) > found.energy_threshold).mean() == pytest.approx(UNLIKE_SHARE, abs=0.004)


def test_classes_count_as_they_are_predicted_and_those_that_never_are_count_nothing():
    logits = np.array([[3, 0, 0], [3, 0, 0], [0, 3, 0], [3, 0, 0]], np.float32)
    found = fit_reference(logits, np.array([0, 1, 2, 0]))
    assert found.class_shares == (0.75, 0.25, 0.0)
    assert found.images == 4


# --- the file -------------------------------------------------------------------------------------------

WHOLE = Reference(1.5, 0.9, (0.25, 0.75), -3.5, 0.01, 400, GlyphLayout(0.7, by_mass=True, stroke=2.5), "dark")


@pytest.mark.parametrize("ink", [WHOLE.ink, None])
def test_what_is_written_is_read(tmp_path, ink):
    expected = replace(WHOLE, ink=ink)
    expected.write(tmp_path / "reference.json")
    assert Reference.read(tmp_path / "reference.json") == expected


def test_a_file_without_a_ground_is_read_without_one(tmp_path):
    path = tmp_path / "reference.json"
    WHOLE.write(path)
    content = json.loads(path.read_text())
    del content["ground"]
    path.write_text(json.dumps(content))
    assert Reference.read(path) == replace(WHOLE, ground=None)


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"format_version": 9}, "format version 9, this release reads version 1; run `darkroom evaluate` again"),
        ({"temperature": None}, "damaged .*temperature"),
        ({"temperature": 0}, "damaged .*temperature"),
        ({"class_shares": "much"}, "damaged"),
        ({"ink": {"thickness": 3}}, "damaged"),
        ({"ground": "gray"}, "damaged .*ground"),
        ({"images": ...}, "damaged"),
        ({"weather": "fine"}, "damaged"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, change, pattern):
    path = tmp_path / "reference.json"
    WHOLE.write(path)
    changed = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in changed.items() if value is not ...}))
    with pytest.raises(ModelError, match=rf"reference\.json: {pattern}"):
        Reference.read(path)
