"""Drawn digits are what they are meant to be: through the transform, without a browser."""

import gzip
import re
from functools import cache

import numpy as np
import pytest
from tests.serving.page.served import train_on
from tests.serving.page.strokes import CANVAS, DIGITS, PEN, draw

from darkroom.serving import app
from darkroom.serving.preprocessing import Transform

# Where and how large somebody draws: the scale, and the corner of the digit's square.
PLACES = [(0.7, (0.15, 0.15)), (0.45, (0.03, 0.5)), (0.9, (0.05, 0.05))]


@cache
def drawings(digit):
    return [
        draw(strokes, scale=scale, corner=corner, slant=slant)
        for strokes in DIGITS[digit]
        for scale, corner in PLACES
        for slant in (-0.1, 0.1, 0.3)
    ]


def made_of_drawings(loaded, **options):
    """What the model is shown of the drawings of each digit."""
    return {
        digit: np.stack([loaded.transform(drawing, **options).pixels for drawing in drawings(digit)])
        for digit in DIGITS
    }


def share_right(loaded, shown):
    """The share of drawn digits that the model takes for what they are meant to be."""
    return np.mean([(loaded.runtime.infer(images).argmax(1) == int(digit)).mean() for digit, images in shown.items()])


@pytest.fixture(scope="module")
def laid_out(digits):
    return made_of_drawings(digits, drawn=True)


def test_the_pen_is_the_pages():
    script = (app.PAGE / "canvas.js").read_text(encoding="utf-8")
    found = {name: float(value) for name, value in re.findall(r"const (CANVAS|PEN) = ([\d.]+);", script)}
    assert found == {"CANVAS": CANVAS, "PEN": PEN}


def test_drawn_digits_are_recognized_because_they_are_laid_out(digits, laid_out):
    assert share_right(digits, laid_out) > 0.75
    assert share_right(digits, made_of_drawings(digits, drawn=False)) < 0.5


def test_drawn_digits_are_recognized_by_a_model_of_mnist(mirror):
    if mirror is None:
        pytest.skip("this machine has no mirror of the published archives")
    with gzip.open(mirror / "mnist" / "train-images-idx3-ubyte.gz") as opened:
        images = np.frombuffer(opened.read(16 + 6_000 * 784), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(mirror / "mnist" / "train-labels-idx1-ubyte.gz") as opened:
        labels = np.frombuffer(opened.read(8 + 6_000), np.uint8, offset=8)
    loaded = train_on(images.copy(), labels, epochs=2)
    assert share_right(loaded, made_of_drawings(loaded, drawn=True)) > 0.95
    assert share_right(loaded, made_of_drawings(loaded, drawn=False)) < 0.8


def test_drawings_have_as_much_ink_as_the_training_images(digits, laid_out):
    assert np.mean(list(laid_out.values())) / 255 == pytest.approx(digits.transform.mean[0], rel=0.15)


def test_a_drawn_seven_is_a_seven(digits, laid_out):
    assert share_right(digits, {"7": laid_out["7"]}) > 0.75


def test_a_drawing_is_laid_out_alike_in_black_on_white_and_white_on_black(digits):
    white = digits.transform(draw(DIGITS["7"][0]), drawn=True)
    black = digits.transform(draw(DIGITS["7"][0], negative=True), drawn=True)
    assert (white.inverted, black.inverted) == (True, False)
    assert np.array_equal(white.pixels, black.pixels)


def test_a_dataset_of_dark_signs_gets_dark_drawings(digits):
    of_dark_signs = Transform(digits.shape, [1 - digits.transform.mean[0]], digits.transform.layout)
    light = digits.transform(draw(DIGITS["7"][0]), drawn=True)
    dark = of_dark_signs(draw(DIGITS["7"][0]), drawn=True)
    assert np.array_equal(dark.pixels, 255 - light.pixels)
    assert not dark.inverted


def test_the_person_may_say_which_is_the_negative(digits):
    drawing = draw(DIGITS["7"][0])
    told = digits.transform(drawing, drawn=True, invert=True)
    assert np.array_equal(told.pixels, digits.transform(drawing, drawn=True).pixels)


def test_where_there_are_no_signs_a_drawing_is_a_picture_as_any(digits):
    transform = Transform(digits.shape, digits.transform.mean)
    drawing = draw(DIGITS["7"][0])
    assert np.array_equal(transform(drawing, drawn=True).pixels, transform(drawing).pixels)
