"""The test split is divided by the table's columns and by what is measured of the images."""

from pathlib import Path

import numpy as np
import pytest

from darkroom.data import cache
from darkroom.data.batches import Split, read_split
from darkroom.errors import ConfigError
from darkroom.evaluation.slicing import by_column, by_confusion, by_size, divide, in_bins, measure_pixels

IMAGES = np.arange(300, dtype=np.uint32).astype(np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
ROWS = {"train": np.arange(50), "val": np.arange(50, 60), "test": np.arange(60, 300)}
CAMERAS = np.array(["a", "b", ""] * 100, dtype=object)


def test_split(directory: Path, **attributes: np.ndarray) -> tuple[Path, Split]:
    """A cache whose test split has 240 images, each of one shade, with columns of a table."""
    card = cache.write(
        directory,
        IMAGES,
        np.arange(300) % 2,
        ROWS,
        name="pets",
        classes=["cat", "dog"],
        names=[],
        settings={},
        attributes=attributes,
    )
    return directory, read_split(directory, card, "test")


test_split.__test__ = False


def test_all_attributes_are_looked_at_unless_some_are_named(tmp_path: Path) -> None:
    directory, test = test_split(tmp_path, camera=CAMERAS, site=np.roll(CAMERAS, 1))

    assert list(divide(directory, test)[0]) == ["camera", "site", "brightness", "ink"]
    assert list(divide(directory, test, ["ink", "site"])[0]) == ["site", "ink"]
    assert divide(directory, test, []) == ({}, {})
    assert divide(directory, test, ["confusion"]) == ({}, {})


def test_images_have_the_slices_of_their_own_rows(tmp_path: Path) -> None:
    directory, test = test_split(tmp_path, camera=CAMERAS)

    slicing, _ = divide(directory, test, ["camera", "brightness"])

    assert slicing["camera"].tolist() == CAMERAS[60:].tolist()
    # The images get lighter from 60 to 255, and then begin at 0 again.
    assert slicing["brightness"][190] == slicing["brightness"][195] != slicing["brightness"][200]


def test_ids_are_left_out_and_counted_unless_they_are_asked_for(tmp_path: Path) -> None:
    patients = np.array([f"patient {row // 2}" for row in range(300)], dtype=object)
    directory, test = test_split(tmp_path, patient=patients)

    slicing, left_out = divide(directory, test)

    assert "patient" not in slicing
    assert left_out == {"patient": 120}
    assert divide(directory, test, ["patient"])[0]["patient"].tolist() == patients[60:].tolist()


def test_a_column_is_not_taken_for_what_is_measured(tmp_path: Path) -> None:
    directory, test = test_split(tmp_path, brightness=CAMERAS)

    slicing, _ = divide(directory, test, ["brightness (table)"])

    assert slicing["brightness (table)"].tolist() == CAMERAS[60:].tolist()


def test_an_attribute_that_is_not_there_is_refused_with_what_it_may_be(tmp_path: Path) -> None:
    directory, test = test_split(tmp_path, camera=CAMERAS)

    with pytest.raises(ConfigError, match=r"^evaluate\.slices: no attribute 'camra' .*; did you mean 'camera'\?$"):
        divide(directory, test, ["ink", "camra"])
    with pytest.raises(ConfigError, match=r"; choose from: camera, size, brightness, ink, confusion$"):
        divide(directory, test, ["x"])


def test_sizes_that_are_not_known_are_refused_where_they_are_asked_for(tmp_path: Path) -> None:
    directory, test = test_split(tmp_path)

    with pytest.raises(ConfigError, match=r"^evaluate\.slices: the size of the images in .* is not known"):
        divide(directory, test, ["size"])


def test_a_column_of_few_values_is_taken_as_it_is() -> None:
    assert by_column(["1", "2", "", "1"]).tolist() == ["1", "2", "", "1"]
    assert by_column([*map(str, range(20)), "unknown"])[:2].tolist() == ["0", "1"]


def test_a_column_of_many_numbers_is_put_into_bins_and_an_empty_cell_into_none() -> None:
    found = by_column([*map(str, range(100)), ""])

    assert found[[0, 19, 20, 99, 100]].tolist() == ["0 to 19.8", "0 to 19.8", "19.8 to 39.6", "79.2 to 99", ""]
    assert np.unique(found, return_counts=True)[1].tolist() == [1, 20, 20, 20, 20, 20]


@pytest.mark.parametrize("cell", ["inf", "nan", "1,5"])
def test_a_column_with_a_cell_that_is_no_number_is_text(cell: str) -> None:
    assert by_column([*map(str, range(20)), cell]).tolist() == [*map(str, range(20)), cell]


def test_equal_values_share_a_bin() -> None:
    values = np.array([0.0] * 70 + [1.0] * 10 + [2.0] * 20)

    found = in_bins(values)

    assert [len(set(found[values == each].tolist())) for each in (0, 1, 2)] == [1, 1, 1]
    assert in_bins(np.full(5, 0.25)).tolist() == ["0.25"] * 5


def test_bins_that_are_close_to_each_other_have_different_names() -> None:
    assert len(set(in_bins(20_260_000 + np.arange(10.0)).tolist())) == 5


def test_few_sizes_are_told_apart_and_many_are_put_into_bins() -> None:
    assert by_size(np.array([[48, 64], [64, 48], [48, 64]])).tolist() == ["48x64", "64x48", "48x64"]
    many = by_size(np.array([[side, 100] for side in range(1, 101)]))
    assert (len(set(many.tolist())), many[0]) == (5, "100 to 2080 pixels")


def test_the_confusion_is_the_true_class_and_the_likeliest_other_one() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.1, 0.2, 0.7]])

    # Right, and wrong; of the last image the class b is the second choice.
    found = by_confusion(probabilities, np.array([0, 0, 2]), ("a", "b", "c"))

    assert found.tolist() == ["a / b", "a / b", "c / b"]
    assert probabilities[0].tolist() == [0.7, 0.2, 0.1]


def test_brightness_is_the_mean_and_ink_what_differs_from_the_border() -> None:
    images = np.zeros((3, 3, 10, 10), np.uint8)
    images[0, :, 2:6, 2:7] = 255
    images[1] = 200
    images[1, 2, 4, 4:6] = 100  # blue alone
    images[2, :, 5, 5] = 31

    brightness, ink = measure_pixels([images[:2], images[2:]])

    assert brightness == pytest.approx([0.2, (200 - 200 / 300) / 255, 31 / 100 / 255])
    assert ink == pytest.approx([0.2, 0.02, 0])
