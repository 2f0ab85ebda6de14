"""The figures and pictures of the data report."""

import json

import numpy as np
import pytest
from PIL import Image

from darkroom import plotting
from darkroom.datasets import report
from darkroom.datasets.report import class_balance, samples
from darkroom.datasets.scan import scan
from darkroom.datasets.source import DecodedDataset

# Five images of the gray levels 1, 2, 1, 1 and 3; the copy of row 0 in the test split has another label.
IMAGES = np.array([1, 2, 1, 1, 3], dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), dtype=np.uint8)
LABELS = np.array([0, 1, 0, 1, 1])
SPLITS = np.full(5, "")
NAMES = tuple(f"{number}.png" for number in range(5))
ROWS = {"train": np.array([0, 1, 2]), "val": np.array([4]), "test": np.array([3])}


def describe(decoded, rows):
    return report.describe(decoded, rows, scan(decoded.images, rows))


def described(**changed):
    given = {"names": NAMES, "sizes": {"4x4": 5}} | changed
    return describe(DecodedDataset(IMAGES, LABELS, SPLITS, ("cat", "dog"), **given), ROWS)


def test_images_are_counted_by_split_and_class():
    found = described()
    assert found["images"] == {"train": 3, "val": 1, "test": 1}
    assert found["classes"] == {
        "cat": {"train": 2, "val": 0, "test": 0},
        "dog": {"train": 1, "val": 1, "test": 1},
    }


def test_duplicates_are_counted_and_named():
    found = described()["duplicates"]
    assert found["groups"] == 1
    assert found["surplus_images"] == 2
    assert found["groups_across_splits"] == 1
    assert found["groups_with_different_labels"] == 1
    assert found["examples"] == [
        [
            {"split": "train", "label": "cat", "image": "0.png"},
            {"split": "train", "label": "cat", "image": "2.png"},
            {"split": "test", "label": "dog", "image": "3.png"},
        ]
    ]


def test_duplicates_without_names_are_given_by_their_row():
    examples = described(names=())["duplicates"]["examples"]
    assert [image["image"] for image in examples[0]] == [0, 2, 3]


def test_groups_across_splits_are_the_first_examples():
    images = np.arange(60, dtype=np.uint8).repeat(2)[:, None, None, None] * np.ones((1, 1, 2, 2), dtype=np.uint8)
    # Each image is there twice; only the last one's copies lie in two splits.
    rows = {"train": np.arange(119), "val": np.array([], dtype=int), "test": np.array([119])}
    decoded = DecodedDataset(images, np.zeros(120, dtype=np.int64), np.full(120, ""), ("a",))
    found = describe(decoded, rows)["duplicates"]
    assert found["groups"] == 60
    assert len(found["examples"]) == 20
    assert found["groups_with_different_labels"] == 0
    assert {image["split"] for image in found["examples"][0]} == {"train", "test"}


def test_broken_images_are_listed_by_name_with_their_reason():
    found = described(broken={"z.png": "truncated", "a.png": "not an image"})
    assert found["broken_count"] == 2
    assert found["broken"] == [
        {"file": "a.png", "reason": "not an image"},
        {"file": "z.png", "reason": "truncated"},
    ]


def test_long_lists_are_cut_and_their_counts_are_whole():
    found = described(
        broken={f"{number}.png": "truncated" for number in range(300)},
        sizes={f"{number}x1": 1 for number in range(300)},
    )
    assert (len(found["broken"]), found["broken_count"]) == (200, 300)
    assert (len(found["original_sizes"]), found["different_sizes"]) == (200, 300)


def test_the_examples_of_a_picture_that_is_everywhere_are_cut():
    images = np.zeros((300, 1, 2, 2), dtype=np.uint8)
    decoded = DecodedDataset(images, np.zeros(300, dtype=np.int64), np.full(300, ""), ("a",))
    rows = {"train": np.arange(250), "val": np.arange(250, 275), "test": np.arange(275, 300)}
    found = describe(decoded, rows)["duplicates"]
    assert found["surplus_images"] == 299
    assert [image["image"] for image in found["examples"][0]] == list(range(200))


def test_the_report_is_plain_json():
    found = described(broken={"a.png": "truncated"})
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("count", [2, 60])
def test_the_bars_of_each_class_add_up_to_its_images(count):
    counts = {f"class {n}": {"train": 5 + n, "val": 2, "test": 1} for n in range(count)}
    axes = class_balance(counts).axes[0]
    starts = np.array([bar.get_x() for bar in axes.patches]).reshape(3, count)
    widths = np.array([bar.get_width() for bar in axes.patches]).reshape(3, count)
    assert widths.sum(axis=0).tolist() == [8 + n for n in range(count)]
    assert starts.tolist() == [[0] * count, widths[0].tolist(), (widths[0] + widths[1]).tolist()]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train", "val", "test"]


def test_classes_whose_shortened_names_are_alike_have_bars_of_their_own():
    counts = {f"{'long name ' * 5}{n}": {"train": 5, "val": 2, "test": 1} for n in range(3)}
    axes = class_balance(counts).axes[0]
    assert len({bar.get_y() for bar in axes.patches}) == 3
    assert {text.get_text() for text in axes.get_yticklabels()} == {"long name long name long na…"}


def shown(figure, width):
    """The pictures in each row of a figure: a strip of them, white between and where there are no more."""
    rows = []
    for axes in figure.axes:
        strip = np.asarray(axes.images[0].get_array())
        # Between small pictures lies one column of pixels.
        pictures = [strip[:, left : left + width] for left in range(0, strip.shape[1], width + 1)]
        rows.append([picture for picture in pictures if (picture != 255).any()])
    return rows


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_show_train_images_of_their_class_once_each(channels):
    # Every image is flat and of a level of its own; even levels are of class 0.
    images = np.arange(60, dtype=np.uint8)[:, None, None, None] * np.ones((1, channels, 3, 3), dtype=np.uint8)
    labels = np.arange(60) % 2
    train = np.arange(26)
    rows = shown(samples(images, labels, train[(labels[train] == 0) | (train < 10)], ["even", "odd"], seed=0), 3)
    levels = [[int(np.asarray(image).flat[0]) for image in row] for row in rows]
    assert len(set(levels[0])) == len(levels[0]) == 10
    assert set(levels[0]) <= set(range(0, 26, 2))
    assert sorted(levels[1]) == [1, 3, 5, 7, 9]


def test_samples_are_the_same_for_the_same_seed():
    images = np.arange(200, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), dtype=np.uint8)
    labels, rows = np.arange(200) % 2, np.arange(200)
    first, second, other = (
        np.array(shown(samples(images, labels, rows, ["a", "b"], seed=seed), 2)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_only_the_first_classes_are_drawn(monkeypatch):
    monkeypatch.setattr(report, "MAX_CLASSES_DRAWN", 3)
    images = np.zeros((9, 1, 2, 2), dtype=np.uint8)
    figure = samples(images, np.arange(9), np.arange(9), [f"class {n}" for n in range(9)], seed=0)
    assert [axes.get_ylabel() for axes in figure.axes] == ["class 0", "class 1", "class 2"]


def test_one_class_makes_one_row():
    figure = samples(np.zeros((3, 1, 2, 2), dtype=np.uint8), np.zeros(3, dtype=int), np.arange(3), ["only"], seed=0)
    assert len(shown(figure, 2)[0]) == 3


@pytest.mark.usefixtures("drawn")
def test_figures_are_saved_as_the_same_bytes_each_time(tmp_path):
    counts = {"cat [x]": {"train": 3, "val": 2, "test": 1}, "$dog$": {"train": 3, "val": 2, "test": 1}}
    for name in ("one.png", "other.png"):
        plotting.save(class_balance(counts), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert image.format == "PNG"


@pytest.mark.usefixtures("drawn")
def test_any_class_name_can_be_drawn(tmp_path):
    names = ["a_b^c", "5$", "$\\frac$", "$5 to $10", "日本語", "a\nb", "x" * 300]
    counts = {name: {"train": 1, "val": 1, "test": 1} for name in names}
    plotting.save(class_balance(counts), tmp_path / "balance.png")
    labels = np.arange(len(names))
    figure = samples(np.zeros((len(names), 1, 4, 4), np.uint8), labels, labels, names, seed=0)
    plotting.save(figure, tmp_path / "samples.png")
    for name in ("balance.png", "samples.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 100
