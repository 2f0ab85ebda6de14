"""The images to try a model on: from every class, the same ones each time, with the model's own pixels."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tests.unit.images.image_files import read

from darkroom.evaluation.gallery import IMAGES, MISTAKES, choose, write_gallery


def answers(classes, images=2000, wrong=0.1, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, images)
    shift = np.where(generator.random(images) < wrong, generator.integers(1, classes, images), 0)
    return SimpleNamespace(labels=labels, predicted=(labels + shift) % classes)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_every_class_is_shown_rightly_answered_and_some_mistakes(classes):
    found = answers(classes)
    rows = choose(found)
    is_right = found.labels[rows] == found.predicted[rows]
    assert len(set(rows.tolist())) == len(rows) == IMAGES
    assert (~is_right).sum() == MISTAKES
    counts = np.bincount(found.labels[rows[is_right]], minlength=classes)
    assert counts.max() - counts.min() <= 1
    assert found.labels[rows].tolist() == sorted(found.labels[rows])


def test_of_more_classes_than_images_each_image_shows_another():
    found = answers(500, images=20_000, wrong=0)
    shown = found.labels[choose(found)]
    assert len(set(shown.tolist())) == IMAGES
    assert shown.max() > 250  # not the first by name


def test_the_same_answers_give_the_same_gallery():
    assert choose(answers(10)).tolist() == choose(answers(10)).tolist()
    assert choose(answers(10)).tolist() != choose(answers(10, seed=1)).tolist()


def test_a_class_with_few_images_gives_way_to_the_others():
    labels = np.array([0] * 100 + [1])
    rows = choose(SimpleNamespace(labels=labels, predicted=labels))
    assert np.bincount(labels[rows]).tolist() == [IMAGES - 1, 1]


@pytest.mark.parametrize("predicted", [np.zeros(4, int), np.array([0, 1, 1, 0])], ids=["some wrong", "all right"])
def test_a_small_split_is_shown_whole(predicted):
    found = SimpleNamespace(labels=np.array([0, 1, 1, 0]), predicted=predicted)
    assert choose(found).tolist() == [0, 3, 1, 2]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_files_hold_the_pixels_that_the_model_was_given(tmp_path, channels):
    found = answers(3, images=40)
    images = np.random.default_rng(0).integers(0, 256, (40, channels, 5, 7), dtype=np.uint8)
    write_gallery(images, found, ("x", "y/z", "…"), tmp_path)
    listed = json.loads((tmp_path / "gallery.json").read_text())
    rows = choose(found)
    assert len(listed) == len(rows)
    for row, each in zip(rows, listed, strict=True):
        assert np.array_equal(read(tmp_path / each["file"], channels, (5, 7)), images[row])
        assert each["actual"] == ("x", "y/z", "…")[found.labels[row]]
        assert each["predicted"] == ("x", "y/z", "…")[found.predicted[row]]
        with Image.open(tmp_path / each["file"]) as opened:
            assert opened.format == "PNG"
