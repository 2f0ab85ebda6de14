"""The pictures of an evaluation: the worst mistakes with a map for either class, and a mean map for each class."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from PIL import Image
from tests.unit.evaluation.test_plots import evaluated, pictures

from darkroom import plotting
from darkroom.explanation import figures
from darkroom.explanation.explainer import Plan
from darkroom.explanation.figures import MISTAKES, class_maps, explained_mistakes
from darkroom.explanation.picture import tinted


class Marking:
    """Instead of an explainer: the heat of a class is one pixel, in the column of its number."""

    def __init__(self, seconds: float = 0.001) -> None:
        self.plan = Plan("layer-cam", seconds)
        self.asked: list[int] = []

    def explain(self, images: NDArray, labels: NDArray) -> NDArray:
        heat = np.zeros((len(images), *images.shape[2:]), np.float32)
        heat[np.arange(len(images)), 0, labels] = 1
        self.asked += labels.tolist()
        return heat


def shown(axes) -> NDArray:
    return np.asarray(axes.images[0].get_array())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mistake_is_shown_plain_and_with_what_spoke_for_either_class(channels: int) -> None:
    found, images = evaluated(5, right=False), pictures(40, channels)

    figure = explained_mistakes(images, found, tuple(found.per_class), Marking())

    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == 3 * MISTAKES
    for row, (plain, wrong, true) in zip(found.mistakes, np.reshape(drawn, (-1, 3)), strict=False):
        assert np.array_equal(shown(plain), images[row].transpose(1, 2, 0).squeeze())
        for axes, label, color, word in (
            (wrong, found.predicted[row], plotting.RED, "predicted"),
            (true, found.labels[row], plotting.GREEN, "true"),
        ):
            heat = np.zeros(images.shape[2:], np.float32)
            heat[0, label] = 1
            assert np.array_equal(shown(axes), tinted(images[row], heat).transpose(1, 2, 0))
            assert (axes.get_title(), to_hex(axes.title.get_color())) == (f"{word} class {label}", color)


@pytest.mark.parametrize(("seconds", "count"), [(0.5, 12), (2.5, 4), (3.0, 3), (11.0, None)])
def test_a_slow_model_has_fewer_mistakes_explained_or_no_picture(seconds: float, count: int | None) -> None:
    """Each takes two maps, and all of them 20 s at most."""
    found, explainer = evaluated(5, right=False), Marking(seconds)

    figure = explained_mistakes(pictures(40), found, tuple(found.per_class), explainer)

    assert (figure is None) == (count is None)
    assert len(explainer.asked) == 2 * (count or 0)


def test_without_mistakes_there_is_nothing_to_explain() -> None:
    found = evaluated(3, right=True)

    assert explained_mistakes(pictures(40), found, tuple(found.per_class), Marking()) is None


def test_a_class_is_the_mean_of_its_images_tinted_by_the_mean_of_their_maps() -> None:
    found, images, explainer = evaluated(3, right=True), pictures(40), Marking()

    figure = class_maps(images, found, tuple(found.per_class), explainer)

    drawn = {axes.get_title(): shown(axes) for axes in figure.axes if axes.images}
    assert drawn.keys() == found.per_class.keys()
    for label, name in enumerate(found.per_class):
        rows = np.flatnonzero(found.labels == label)
        assert len(rows) <= figures.CLASS_IMAGES  # all of them are in the mean
        heat = np.zeros(images.shape[2:], np.float32)
        heat[0, label] = 1
        mean = images[rows].mean(0).astype(np.uint8)
        assert np.abs(drawn[name].astype(int) - tinted(mean, heat).transpose(1, 2, 0)).max() <= 1


def test_a_class_that_is_never_right_is_left_out() -> None:
    found = evaluated(5)
    wrong = next(label for label in range(5) if not (found.predicted == found.labels)[found.labels == label].all())
    found.predicted[found.labels == wrong] = (wrong + 1) % 5

    figure = class_maps(pictures(40), found, tuple(found.per_class), Marking())

    assert f"class {wrong}" not in {axes.get_title() for axes in figure.axes if axes.images}


@pytest.mark.parametrize(("seconds", "count"), [(0.001, 16), (20 / 15, 5), (20.0, None)])
def test_a_slow_model_has_fewer_images_of_each_class_or_no_picture(seconds: float, count: int | None) -> None:
    found, explainer = evaluated(3, count=200, right=True), Marking(seconds * 0.999)

    figure = class_maps(pictures(200), found, tuple(found.per_class), explainer)

    assert (figure is None) == (count is None)
    assert np.bincount(explainer.asked, minlength=3).tolist() == [count or 0] * 3


@pytest.mark.usefixtures("drawn")
def test_the_pictures_are_drawn_for_many_classes_with_long_names(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(figures, "MAX_CLASSES", 7)
    found = evaluated(12, "a class with a name that is far too long for any picture, number {}", count=300)
    images = np.random.default_rng(1).integers(0, 256, (300, 1, 6, 100), dtype=np.uint8)

    drawn = [draw(images, found, tuple(found.per_class), Marking()) for draw in (explained_mistakes, class_maps)]

    assert sum(bool(axes.images) for axes in drawn[1].axes) == 7
    assert "of 7 of 12 classes, the weakest first" in drawn[1].get_suptitle()
    for figure in drawn:
        plotting.save(figure, tmp_path / "x.png")
        with Image.open(tmp_path / "x.png") as picture:
            assert 150 < min(picture.size) <= max(picture.size) < 2000
