"""Every picture of a comparison can be drawn, and shows where the second model is better."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from darkroom import plotting
from darkroom.evaluation.comparison import Comparison
from darkroom.evaluation.comparison_plots import confusion_difference, disagreements
from darkroom.evaluation.predictions import SplitPredictions

pytestmark = pytest.mark.usefixtures("drawn")

NAMES = ("version 1", "version 2")


def made_up(classes, *, images=200, alike=False):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, images)
    first = generator.integers(0, classes, images)
    second = first if alike else generator.integers(0, classes, images)
    names = tuple(f"a$1_${{}} with a name that is far too long {number}" for number in range(classes))
    return Comparison(*(
        SplitPredictions(names, tuple(map(str, range(images))), labels, predicted, generator.random(images))
        for predicted in (first, second)
    ))  # fmt: skip


def saved_size(figure, path):
    plotting.save(figure, path)
    with Image.open(path) as image:
        image.load()
        return image.size


def pictures(count, channels=1):
    return np.random.default_rng(1).integers(0, 256, (count, channels, 6, 8), dtype=np.uint8)


@pytest.mark.parametrize(
    ("classes", "alike"),
    [(2, True), (10, False), (30, False), pytest.param(100, False, marks=[pytest.mark.long, pytest.mark.slow])],
)
def test_the_difference_is_drawn_for_any_number_of_classes(tmp_path, classes, alike):
    width, height = saved_size(confusion_difference(made_up(classes, alike=alike), NAMES), tmp_path / "x.png")

    assert 500 <= height < width <= 2500


def test_the_difference_is_blue_where_the_second_model_is_better():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    answers = [
        SplitPredictions(("cat", "dog"), tuple("abcdefgh"), labels, np.array(predicted), np.ones(8))
        for predicted in ([0, 0, 1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 0, 0])
    ]

    axes = confusion_difference(Comparison(*answers), NAMES).axes[0]

    shown = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
    assert shown == {(0, 0): "+1", (0, 1): "-1", (1, 0): "+2", (1, 1): "-2"}
    red, _, blue, _ = axes.images[0].to_rgba(axes.images[0].get_array())[0, 0]
    assert red < blue
    for row, column in ((1, 0), (1, 1)):
        red, _, blue, _ = axes.images[0].to_rgba(axes.images[0].get_array())[row, column]
        assert red > blue
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.25, 0.25], [-0.5, -0.5]])


@pytest.mark.parametrize("channels", [1, 3])
def test_disagreements_are_drawn_in_the_color_of_who_is_right(channels):
    found, images = made_up(4), pictures(200, channels)

    figure = disagreements(images, found, NAMES)

    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == 25
    by_pixels = {images[row].tobytes(): row for row in range(200)}
    for axes in drawn:
        picture = np.asarray(axes.images[0].get_array(), np.uint8)
        row = by_pixels[(picture[None] if channels == 1 else picture.transpose(2, 0, 1)).tobytes()]
        assert row in found.disagreements
        color = plotting.GREEN if found.only_b[row] else plotting.RED if found.only_a[row] else plotting.GRAY
        assert to_hex(axes.title.get_color()) == color
        assert f"version 2: a\\$1_\\${{}} wit… {found.b.confidence[row]:.0%}" in axes.get_title()


def test_images_that_were_not_compared_are_not_drawn():
    found, images = made_up(4), pictures(300)
    places = np.arange(300)[::-1][:200]

    figure = disagreements(images, found, NAMES, places=places)

    drawn = [np.asarray(axes.images[0].get_array(), np.uint8)[None].tobytes() for axes in figure.axes if axes.images]
    expected = [images[places[row]].tobytes() for row in found.disagreements]
    assert set(drawn) <= set(expected)


@pytest.mark.parametrize(("images", "least"), [(10, 100), (200, 500)])
def test_up_to_25_disagreements_are_drawn(tmp_path, images, least):
    found = made_up(2, images=images)

    figure = disagreements(pictures(images), found, NAMES)

    assert sum(bool(axes.images) for axes in figure.axes) == min(25, len(found.disagreements))
    assert min(saved_size(figure, tmp_path / "x.png")) > least


def test_models_that_answer_alike_have_a_picture_that_says_so(tmp_path):
    figure = disagreements(pictures(200), made_up(3, alike=True), NAMES)

    assert "no test image on which they disagree" in figure.get_suptitle()
    assert min(saved_size(figure, tmp_path / "x.png")) > 100
