"""Every picture can be drawn for every evaluation, and shows what was measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image

from darkroom import plotting
from darkroom.evaluation.metrics import Evaluation, measure
from darkroom.evaluation.plots import (
    class_scores,
    confusion_matrix,
    prediction_grid,
    slice_accuracies,
    worst_mistakes,
)
from darkroom.evaluation.slices import Slice
from darkroom.evaluation.training_curves import learning_curves, read_history, write_history
from darkroom.plotting import GRAY, image_grid

pytestmark = pytest.mark.usefixtures("drawn")

SHORT = "class {}"
LONG = "a class with a name that is far too long for any picture, number {}"
# To matplotlib a formula, and one that it cannot read.
FORMULA = "a$1_${}"
# From two classes to as many as CIFAR-100 has; of 30 no numbers are written any more.
SWEEP = [(2, FORMULA), (10, LONG), (30, LONG), pytest.param(100, LONG, marks=[pytest.mark.long, pytest.mark.slow])]


def evaluated(classes: int, names: str = SHORT, *, count: int = 40, right: bool | None = None) -> Evaluation:
    """An evaluation of random logits, or of ones that are all right or all wrong."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, count)
    logits = generator.normal(size=(count, classes))
    if right is not None:
        logits[np.arange(count), labels] = 50.0 if right else -50.0
    return measure(logits, labels, tuple(names.format(number) for number in range(classes)), top_k=2, bins=10)


def pictures(count: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, channels, 6, 8), dtype=np.uint8)


def saved_size(figure: Figure, path: Path) -> tuple[int, int]:
    """The pixels of the figure as a PNG file, after every one of them was read."""
    plotting.save(figure, path)
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


@pytest.mark.parametrize(("classes", "names"), SWEEP)
def test_a_confusion_matrix_is_drawn_for_any_number_of_classes(tmp_path: Path, classes: int, names: str) -> None:
    found = evaluated(classes, names)

    width, height = saved_size(confusion_matrix(found.confusion, tuple(found.per_class), "A title"), tmp_path / "x.png")

    assert 500 <= height < width <= 2500


def test_a_confusion_matrix_shows_its_counts() -> None:
    confusion = np.array([[7, 2], [0, 1234]])

    axes = confusion_matrix(confusion, ("cat", "dog"), "A title").axes[0]

    shown = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
    assert shown == {(0, 0): "7", (0, 1): "2", (1, 1): "1,234"}
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true", "predicted")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[7 / 9, 2 / 9], [0, 1]])


@pytest.mark.parametrize(("classes", "names"), SWEEP)
def test_class_scores_are_drawn_for_any_number_of_classes(tmp_path: Path, classes: int, names: str) -> None:
    width, height = saved_size(class_scores(evaluated(classes, names).per_class), tmp_path / "x.png")

    assert 700 <= width <= 1500
    assert 300 <= height <= 2500


def test_class_names_that_are_cut_to_the_same_keep_a_bar_each() -> None:
    axes = class_scores(evaluated(10, LONG).per_class).axes[0]

    assert len({bar.get_y() for bar in axes.patches}) == len(axes.get_yticklabels()) == 10


def test_class_scores_have_the_weakest_at_the_top() -> None:
    values = (("middle", 0.5), ("weak", 0.1), ("strong", 0.9))
    scores = {name: {"f1": f1, "f1_low": f1 - 0.1, "f1_high": f1 + 0.05, "support": 9} for name, f1 in values}

    axes = class_scores(scores).axes[0]

    rising = [label.get_text() for label in axes.get_yticklabels()]
    assert rising == ["strong", "middle", "weak"]
    assert [bar.get_width() for bar in axes.patches] == [0.9, 0.5, 0.1]
    (intervals,) = (each.lines[2] for each in axes.containers if isinstance(each, ErrorbarContainer))
    ends = [segment[:, 0].tolist() for segment in intervals[0].get_segments()]
    assert ends == [pytest.approx([f1 - 0.1, f1 + 0.05]) for f1 in (0.9, 0.5, 0.1)]


def test_class_scores_leave_out_classes_without_test_images_and_count_them() -> None:
    cat = {"f1": 0.5, "f1_low": 0.3, "f1_high": 0.7, "support": 9}
    axes = class_scores({"cat": cat, "owl": dict.fromkeys(cat) | {"support": 0}}).axes[0]

    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat"]
    assert axes.get_title(loc="left") == "F1 of each class, with its 95 % interval (1 without test images)"


def sliced(count: int, names: str = SHORT) -> list[Slice]:
    """Slices of a rising accuracy, of which the first is named."""
    shares = np.linspace(0.5, 1, count).tolist()
    return [
        Slice(names.format("by"), names.format(row), 100 + row, share, share - 0.1, min(1, share + 0.1), 0.5, bool(row))
        for row, share in enumerate(shares)
    ]


@pytest.mark.parametrize(("count", "names"), [(1, SHORT), (2, FORMULA), (40, LONG)])
def test_slices_are_drawn_for_any_number_of_them(tmp_path: Path, count: int, names: str) -> None:
    width, height = saved_size(slice_accuracies(sliced(count, names), 0.9), tmp_path / "x.png")

    assert 700 <= width <= 1500
    assert 250 <= height <= 2500


def test_the_worst_slices_are_drawn_from_the_top_and_named_ones_in_red() -> None:
    axes = slice_accuracies(sliced(40), 0.9).axes[0]

    assert len(axes.get_yticklabels()) == 30
    assert axes.get_yticklabels()[0].get_text() == "class by: class 0 (100)"
    bottom, top = axes.get_ylim()
    assert bottom > top
    points = [each.lines[0] for each in axes.containers if isinstance(each, ErrorbarContainer)]
    assert [to_hex(each.get_color()) for each in points[:2]] == [plotting.RED, plotting.BLUE]
    assert [float(each.get_xdata()[0]) for each in points[:2]] == pytest.approx([0.5, 0.5 + 0.5 / 39])
    assert axes.get_title(loc="left") == "Accuracy of the 30 worst of 40 slices, with 95 % intervals"


@pytest.mark.parametrize(("count", "channels"), [(1, 3), (7, 1), (40, 3)])
def test_a_grid_shows_up_to_25_images(tmp_path: Path, channels: int, count: int) -> None:
    found = evaluated(3, count=count)

    figure = prediction_grid(pictures(count, channels), found, tuple(found.per_class))

    assert sum(bool(axes.images) for axes in figure.axes) == min(count, 25)
    width, height = saved_size(figure, tmp_path / "x.png")
    assert 500 <= width <= 2000
    assert 200 <= height <= 2000


def test_a_grid_shows_each_image_under_its_own_title_green_where_it_is_right() -> None:
    found = evaluated(3, count=12)
    images = pictures(12)

    figure = prediction_grid(images, found, tuple(found.per_class))

    for row, axes in enumerate(axes for axes in figure.axes if axes.images):
        np.testing.assert_array_equal(axes.images[0].get_array(), images[row, 0])
        label, guess = found.labels[row], found.predicted[row]
        assert axes.get_title().startswith(f"true class {label}\npredicted class {guess} ")
        assert to_hex(axes.title.get_color()) == (plotting.GREEN if label == guess else plotting.RED)


@pytest.mark.parametrize(("classes", "names", "channels"), [(2, SHORT, 1), (30, LONG, 3)])
def test_the_most_confident_mistakes_are_drawn(tmp_path: Path, classes: int, names: str, channels: int) -> None:
    found = evaluated(classes, names, right=False)

    figure = worst_mistakes(pictures(40, channels), found, tuple(found.per_class))

    assert sum(bool(axes.images) for axes in figure.axes) == 25
    assert {to_hex(axes.title.get_color()) for axes in figure.axes if axes.images} == {plotting.RED}
    width, height = saved_size(figure, tmp_path / "x.png")
    assert 500 <= min(width, height) <= max(width, height) <= 2000


@pytest.mark.parametrize("shape", [(60, 60), (60, 120), (90, 60)])
@pytest.mark.parametrize("count", [2, 7])
def test_a_grid_is_as_high_as_its_images(shape: tuple[int, int], count: int) -> None:
    figure = image_grid(np.zeros((count, 3, *shape), np.uint8), ["a\nb"] * count, [GRAY] * count, "Images")
    figure.draw_without_rendering()

    height = figure.get_window_extent().height / figure.dpi
    boxes = [axes.get_window_extent() for axes in figure.axes if axes.images]
    assert min(box.y0 for box in boxes) / figure.dpi < 0.25
    assert all(box.width / figure.dpi > 1.7 for box in boxes)
    assert height - max(box.y1 for box in boxes) / figure.dpi < 0.8


def test_a_model_without_mistakes_has_a_picture_that_says_so(tmp_path: Path) -> None:
    found = evaluated(3, right=True)

    figure = worst_mistakes(pictures(40), found, tuple(found.per_class))

    assert not any(axes.images for axes in figure.axes)
    assert "(0 of 40 test images are wrong)" in figure.get_suptitle()
    assert min(saved_size(figure, tmp_path / "x.png")) > 150


def history(epochs: int) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "train_loss": 1 / (3 * epoch),
            "train_accuracy": 1 - 0.1 / epoch,
            "val_loss": 2 / (7 * epoch),
            "val_accuracy": 1 - 0.3 / epoch,
            "lr": 1e-3 / epoch,
            "seconds": 0.1 + epoch,
        }
        for epoch in range(1, epochs + 1)
    ]


@pytest.mark.parametrize("epochs", [1, 2, 300])
def test_a_history_survives_the_file(tmp_path: Path, epochs: int) -> None:
    write_history(history(epochs), tmp_path / "history.csv")

    assert read_history(tmp_path / "history.csv") == history(epochs)


@pytest.mark.parametrize("epochs", [1, 2, 300])
def test_learning_curves_are_drawn_for_a_training_of_any_length(tmp_path: Path, epochs: int) -> None:
    width, height = saved_size(learning_curves(history(epochs), epochs), tmp_path / "x.png")

    assert 1000 <= width <= 1500
    assert 400 <= height <= 700


def test_learning_curves_show_train_and_validation_and_the_best_epoch() -> None:
    rows = history(4)

    figure = learning_curves(rows, 3)

    for axes, name in zip(figure.axes, ("loss", "accuracy"), strict=True):
        train, val, best = axes.lines
        assert list(train.get_ydata()) == [row[f"train_{name}"] for row in rows]
        assert list(val.get_ydata()) == [row[f"val_{name}"] for row in rows]
        assert (best.get_xdata()[0], best.get_label()) == (3, "best epoch (3)")


def test_learning_curves_say_where_labels_were_smoothed() -> None:
    loss, accuracy = learning_curves(history(2), 1, label_smoothing=0.1).axes

    assert loss.lines[0].get_label() == "train (smoothed labels)"
    assert accuracy.lines[0].get_label() == "train"


def test_the_same_figures_make_the_same_file(tmp_path: Path) -> None:
    for name in ("first.png", "again.png"):
        plotting.save(learning_curves(history(3), 2), tmp_path / name)

    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "again.png").read_bytes()
