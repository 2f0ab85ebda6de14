"""`darkroom predict` answers as `darkroom evaluate` did for the very same files, whatever the dataset."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serving.datasets import disagreements, draw, evaluated_dataset

from darkroom.prediction.predictor import DARK_GROUND


def split_of(row, count):
    return ("train", "val", "test")[3 * row // count]


def test_predicting_the_test_files_is_what_predictions_csv_says(long):
    @settings(max_examples=150 if long else 12, deadline=None)
    @given(st.data())
    def check(data):
        seed = data.draw(st.integers(0, 2**16))
        generator = np.random.default_rng(seed)
        color = data.draw(st.booleans())
        kind = data.draw(st.sampled_from(["signs", "filled", "noise"]))
        # How many lie on the light ground: none, all, or some, perhaps in one split alone.
        light = data.draw(
            st.lists(st.booleans(), min_size=18, max_size=18) | st.sampled_from([[False] * 18, [True] * 18])
        )
        side = data.draw(st.sampled_from([8, 20, 27]))
        shape = (data.draw(st.sampled_from([1, 3])), side, side)
        pictures = [
            (
                split_of(row, 18),
                row % 3,
                draw(row % 3, "light" if light[row] else "dark", generator, kind=kind, color=color),
            )
            for row in range(18)
        ]
        model = data.draw(st.sampled_from(["mlp", "simple-cnn"]))
        with tempfile.TemporaryDirectory() as place:
            fit = data.draw(st.sampled_from(["pad", "crop", "stretch"]))
            predictor, lines = evaluated_dataset(Path(place), pictures, shape, model, seed, fit)
            assert len(lines) == 6
            assert disagreements(predictor, Path(place), lines) == []

    check()


def signs(grounds):
    """Pictures of drawn signs, on the ground that ``grounds`` gives for each row; a third of them in each split."""
    generator = np.random.default_rng(1)
    count = len(grounds)
    return [(split_of(row, count), row % 3, draw(row % 3, ground, generator)) for row, ground in enumerate(grounds)]


def test_a_dark_dataset_with_a_quarter_on_a_light_table_keeps_its_answers(tmp_path):
    predictor, lines = evaluated_dataset(tmp_path, signs(["dark", "dark", "dark", "light"] * 18), (1, 20, 20))
    assert predictor.transform.mean[0] < DARK_GROUND
    assert len(lines) == 24
    assert disagreements(predictor, tmp_path, lines) == []


@pytest.mark.parametrize("ground", ["dark", "light"])
def test_where_all_signs_lie_on_one_ground_a_negative_is_answered_as_its_positive(tmp_path, ground):
    predictor, lines = evaluated_dataset(tmp_path, signs([ground] * 18), (1, 20, 20))
    assert predictor.transform.ground == ground
    assert disagreements(predictor, tmp_path, lines) == []
    other = "light" if ground == "dark" else "dark"
    draw(1, other, np.random.default_rng(5)).save(tmp_path / "negative.png")
    draw(1, ground, np.random.default_rng(5)).save(tmp_path / "positive.png")
    negative, positive = predictor.predict([tmp_path / "negative.png", tmp_path / "positive.png"])
    assert (negative.inverted, positive.inverted) == (True, False)
    assert negative.probabilities == pytest.approx(positive.probabilities, abs=0.02)


@pytest.mark.parametrize("row", [0, 7, 17], ids=["train", "val", "test"])
def test_a_single_image_on_another_ground_in_any_split_is_enough_to_invert_nothing(tmp_path, row):
    grounds = ["dark"] * 18
    grounds[row] = "light"
    predictor, lines = evaluated_dataset(tmp_path, signs(grounds), (1, 20, 20))
    assert predictor.transform.ground == "mixed"
    assert disagreements(predictor, tmp_path, lines) == []
