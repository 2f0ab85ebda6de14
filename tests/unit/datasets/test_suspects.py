"""What is suspect about images: told with numbers, and whether it stops."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from darkroom.config import Config
from darkroom.config.settings import Dataset, Preprocess
from darkroom.datasets.scan import scan
from darkroom.datasets.suspects import find_suspects
from darkroom.errors import DataError
from darkroom.stages import download, preprocess
from darkroom.workspace import Workspace


def noise(count, channels=1, seed=0):
    """Images that all differ."""
    return np.random.default_rng(seed).integers(0, 256, (count, channels, 4, 4), dtype=np.uint8)


def find(images, labels=None, *, train=None, val=(), test=(), classes=("cat", "dog"), names=()):
    """The suspects by kind; all images are of train, and of the classes in turn, unless said otherwise."""
    labels = np.arange(len(images)) % len(classes) if labels is None else np.array(labels)
    train = [row for row in range(len(images)) if row not in {*val, *test}] if train is None else train
    rows = {"train": np.array(train), "val": np.array(val, dtype=int), "test": np.array(test, dtype=int)}
    found = find_suspects(scan(images, rows), labels, classes, names)
    assert [each.stops for each in found] == sorted((each.stops for each in found), reverse=True)
    listed = [asdict(each) for each in found]
    assert json.loads(json.dumps(listed, allow_nan=False)) == listed  # as report.json holds it
    return {each.kind: each for each in found}


def told(found):
    return {kind: (each.stops, each.images, each.text) for kind, each in found.items()}


def test_nothing_is_suspect_about_images_that_differ():
    assert find(noise(40), val=range(20, 30), test=range(30, 40)) == {}


@pytest.mark.parametrize(("levels", "value"), [([128], "128"), ([10, 200, 30], "10, 200, 30")])
def test_a_train_split_of_one_value_stops_and_this_is_all_that_is_said(levels, value):
    images = np.broadcast_to(np.array(levels, dtype=np.uint8)[:, None, None], (12, len(levels), 4, 4)).copy()
    images[10:] = noise(2, len(levels))
    text = f"the train split has no contrast: every pixel of its 10 images is {value}"
    assert told(find(images, test=[10, 11])) == {"no contrast": (True, 10, text)}


def test_a_train_split_of_a_few_neighboring_values_is_told():
    found = find(noise(20) % 16 + 40)
    assert list(found) == ["almost no contrast"]
    assert not found["almost no contrast"].stops
    assert "its values are 40 to 55, of 0 to 255; " in found["almost no contrast"].text
    assert "preprocess.value_range" in found["almost no contrast"].text
    assert find(noise(20) % 17) == {}


def test_one_channel_with_contrast_is_enough():
    images = noise(20, 3)
    images[:, 1:] = 7
    assert find(images) == {}


def test_drawings_in_black_and_white_are_told_but_do_not_stop():
    found = find(noise(20) // 128 * 255)
    assert list(found) == ["two levels"]
    assert not found["two levels"].stops
    assert "2 of 256 values only, 0 and 255" in found["two levels"].text


def test_images_of_one_color_are_counted_by_class_and_named():
    images = noise(20, 3)
    images[[0, 1, 2]] = np.array([9, 8, 7], dtype=np.uint8)[:, None, None]
    found = find(images, val=[2], names=[f"{row}.png" for row in range(20)])
    text = "3 of 20 images (15 %) are of one color (2 of class 'cat', 1 of class 'dog'), such as 0.png, 1.png, 2.png"
    assert told(found)["one color"] == (False, 3, text)
    assert found["one color"].share == pytest.approx(0.15)
    assert found["one color"].examples == ["0.png", "1.png", "2.png"]


def test_one_such_image_is_spoken_of_in_the_singular():
    images = noise(8)
    images[3] = 0
    assert find(images)["one color"].text == (
        "1 of 8 images (12.5 %) is of one color (1 of class 'dog'), such as image 3"
    )


@pytest.mark.parametrize(("count", "stops"), [(10, False), (11, True)])
def test_more_than_half_of_train_in_one_color_stops(count, stops):
    images = noise(24)
    images[:count] = np.arange(count, dtype=np.uint8)[:, None, None, None]
    images[20:] = 200  # which are not of train
    assert find(images, [0, 1] * 12, test=range(20, 24))["one color"].stops is stops


@pytest.mark.parametrize(("count", "stops"), [(10, None), (11, True)])
def test_more_than_half_of_train_being_the_same_picture_stops(count, stops):
    images = noise(20)
    images[:count] = images[0]
    found = find(images, names=[f"{row}.png" for row in range(20)])
    assert ("one picture" in found) is bool(stops)
    if stops:
        text = "11 of 20 train images (55 %) are one and the same picture, such as 0.png, 1.png, 2.png"
        assert told(found)["one picture"] == (True, 11, text)


def test_two_train_images_are_not_most_of_them():
    assert "one picture" not in find(noise(2))


def test_mostly_copies_of_different_pictures_are_told_but_do_not_stop():
    found = find(noise(8).repeat(5, axis=0), np.arange(8).repeat(5) % 2)
    text = "32 of 40 train images (80 %) are copies of others, such as image 1, image 2, image 3"
    assert told(found) == {"copies": (False, 32, text)}


def test_a_class_of_one_picture_and_a_class_of_one_color_stop():
    images = noise(32)
    images[0::4] = images[0]
    images[1::4] = np.arange(8, dtype=np.uint8)[:, None, None, None]
    found = find(images, classes=("cat", "dog", "eel", "fox"))
    assert told(found)["class of one picture"] == (
        True, 8, "1 of 4 classes has nothing but copies of one picture in train: 'cat' (8 images), such as "
        "image 0, image 4, image 8",
    )  # fmt: skip
    assert told(found)["class of one color"] == (
        True, 8, "1 of 4 classes has nothing but images of one color in train: 'dog' (8 images), such as "
        "image 1, image 5, image 9",
    )  # fmt: skip


def test_a_class_of_one_image_is_no_class_of_copies():
    assert find(noise(11), [0] * 10 + [1]) == {}


def test_of_many_dead_classes_a_few_are_named():
    images = np.concatenate([noise(60), np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones_like(noise(1))])
    found = find(images, [0] * 60 + list(np.arange(40) // 8 + 1), classes=[f"class {number}" for number in range(6)])
    assert found["class of one color"].text.startswith(
        "5 of 6 classes have nothing but images of one color in train: 'class 1' (8 images), 'class 2' (8 images), "
        "'class 3' (8 images) and 2 more, such as image 60"
    )


def test_images_with_other_labels_are_counted_apart_from_their_groups():
    images = noise(30)
    images[[3, 5]] = images[0]  # dog, dog, cat
    images[11] = images[10]
    images[22] = images[20]  # both cat
    found = find(images, val=[11], names=[f"{row}.png" for row in range(30)])
    assert told(found)["contradicting labels"] == (
        False, 5, "5 of 30 images (16.7 %) are identical to an image of another class, in 2 groups, such as "
        "0.png, 3.png, 5.png",
    )  # fmt: skip
    assert found["contradicting labels"].examples == ["0.png", "3.png", "5.png", "10.png", "11.png"]


@pytest.mark.parametrize(("copied", "stops"), [(5, False), (6, True)])
def test_labels_that_contradict_each_other_in_most_of_train_stop(copied, stops):
    # Ten pictures, some of them in both classes.
    images = np.concatenate([noise(20 - copied), noise(20 - copied)[:copied]])
    labels = [0] * (20 - copied) + [1] * copied
    assert find(images, labels)["contradicting labels"].stops is stops


def test_other_labels_outside_train_do_not_stop():
    images = noise(10).repeat(2, axis=0)
    found = find(images, train=range(0, 20, 2), test=range(1, 20, 2), labels=[0, 1, 1, 0] * 5)
    assert not found["contradicting labels"].stops


@pytest.mark.parametrize(("copied", "stops"), [(5, False), (6, True)])
def test_test_images_that_are_in_train_are_counted_and_stop_if_they_are_most(copied, stops):
    images = noise(40)
    images[30 : 30 + copied] = images[:copied]
    found = find(images, test=range(30, 40))
    share = f"{copied} of 10 test images ({copied}0 %) are also in train, such as image 30, image 31, image 32"
    assert told(found) == {"test in train": (stops, copied, share)}


def test_copies_in_val_are_told_but_do_not_stop():
    images = noise(40)
    images[20:30] = images[:10]
    images[30] = images[0]  # which is in train already
    images[32:34] = noise(1, seed=1)
    found = find(images, [0] * 35 + [1] * 5, val=[*range(20, 30), 32], test=[30, 31, 33])
    assert told(found) == {
        "val in train": (
            False, 10, "10 of 11 val images (90.9 %) are also in train, such as image 20, image 21, image 22"
        ),
        "test in train": (False, 1, "1 of 3 test images (33.3 %) is also in train, such as image 30"),
        "test in val": (False, 1, "1 of 3 test images (33.3 %) is also in val, but not in train, such as image 33"),
    }  # fmt: skip


def test_examples_are_cut_and_counts_are_whole():
    images = np.concatenate([noise(700), np.zeros((300, 1, 4, 4), np.uint8)])
    found = find(images)["one color"]
    assert (found.images, len(found.examples)) == (300, 200)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 2), st.sampled_from(["train", "val", "test"])),
        min_size=1, max_size=30,
    ).filter(lambda images: any(split == "train" for *_, split in images))
)  # fmt: skip
def test_counts_are_those_of_a_plain_comparison(images):
    # Two pictures of one color, and three that are not.
    pictures = np.concatenate([np.zeros((2, 1, 4, 4), np.uint8), noise(3)])
    pictures[1] = 200
    splits = {
        name: [row for row, (*_, split) in enumerate(images) if split == name] for name in ("train", "val", "test")
    }
    found = find(pictures[[picture for picture, *_ in images]], [label for _, label, _ in images],
                 classes=("a", "b", "c"), **splits)  # fmt: skip
    if "no contrast" in found:
        assert len({images[row][0] for row in splits["train"]} - {0}) <= 1
        return
    owners = {picture: {label for each, label, _ in images if each == picture} for picture in range(5)}
    trained = {images[row][0] for row in splits["train"]}
    leaked = [row for row in splits["test"] if images[row][0] in trained]

    def count(kind):
        return found[kind].images if kind in found else 0

    assert count("one color") == sum(picture < 2 for picture, *_ in images)
    assert count("contradicting labels") == sum(len(owners[picture]) > 1 for picture, *_ in images)
    assert count("test in train") == len(leaked)
    if "test in train" in found:
        assert found["test in train"].stops == (len(leaked) > len(splits["test"]) / 2)


# --- the stage ---------------------------------------------------------------------------------------


@pytest.fixture
def preprocessed(tmp_path, capsys):
    """Preprocess a folder of the given images [N, 1, H, W], two classes in turn; gives what was said."""

    def run(images, **settings):
        for row, image in enumerate(images):
            path = tmp_path / "images" / ("cat", "dog")[row % 2] / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0]).save(path)
        dataset = Dataset(name="folder", path=str(tmp_path / "images"))
        config, workspace = Config(dataset=dataset, preprocess=Preprocess(**settings)), Workspace(tmp_path)
        download.run(config, workspace)
        preprocess.run(config, workspace)
        return capsys.readouterr().err

    return run


def reported(root):
    return json.loads((root / "reports" / "preprocess" / "report.json").read_text(encoding="utf-8"))["suspects"]


def contents(*directories):
    """All files but what is decoded already, which the next attempt uses."""
    found = [path for each in directories for path in each.rglob("*") if ".folder.partial" not in path.parts]
    return {path: path.read_bytes() for path in found if path.is_file()}


def test_dead_images_stop_before_anything_is_written(preprocessed, tmp_path):
    preprocessed(noise(40))
    before = contents(tmp_path / "data" / "processed", tmp_path / "reports")
    assert before
    images = noise(40)
    images[:30] = 255
    with pytest.raises(DataError) as raised:
        preprocessed(images)
    lines = str(raised.value).splitlines()
    # All of it at once.
    assert lines[0].startswith(
        "30 of 40 images (75 %) are of one color (15 of class 'cat', 15 of class 'dog'), such as "
    )
    assert " are one and the same picture, such as " in lines[1]
    assert lines[2].startswith("30 of 40 images (75 %) are identical to an image of another class, in 1 group, such ")
    assert "test images" in lines[3]
    assert lines[-1] == (
        "nothing was written: fix or remove these images; or set preprocess.on_suspect to warn, and "
        "reports/preprocess/report.json lists them"
    )
    assert contents(tmp_path / "data" / "processed", tmp_path / "reports") == before


def test_dead_images_are_warned_of_and_listed_if_so_set(preprocessed, tmp_path):
    assert (
        "warning: the train split has no contrast: every pixel of its 28 images is 9; reports/preprocess/report.json "
        "lists them under suspects"
    ) in preprocessed(np.full((40, 1, 4, 4), 9, np.uint8), on_suspect="warn")
    found = reported(tmp_path)
    assert [(each["kind"], each["stops"], each["images"]) for each in found] == [("no contrast", True, 28)]
    assert len(found[0]["examples"]) == 28
    assert found[0]["examples"][0].endswith(".png")


def test_what_is_suspect_but_can_be_learned_does_not_stop(preprocessed, tmp_path):
    images = noise(40)
    images[1] = images[0]
    said = preprocessed(images)
    assert "warning: 2 of 40 images (5 %) are identical to an image of another class, in 1 group, such as " in said
    assert "contradicting labels" in {each["kind"] for each in reported(tmp_path)}


def test_images_without_anything_suspect_are_not_spoken_of(preprocessed, tmp_path):
    assert "suspects" not in preprocessed(noise(40))
    assert reported(tmp_path) == []
