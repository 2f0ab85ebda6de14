"""Which folder means which class and split, and what is refused because it could mean two things."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.data.layout import arrange
from darkroom.errors import DataError


def meaning(names):
    """What ``arrange`` makes of the names: {name: (split, class)}."""
    labels, splits, classes = arrange(names)
    assert labels.dtype == np.int64
    return {name: (str(split), classes[label]) for name, split, label in zip(names, splits, labels, strict=True)}


def test_sub_folders_are_classes_in_the_order_of_their_names():
    labels, splits, classes = arrange(["dog/1.png", "ant/1.png", "cat/1.png", "ant/2.png"])
    assert classes == ("ant", "cat", "dog")
    assert labels.tolist() == [2, 0, 1, 0]
    assert splits.tolist() == ["", "", "", ""]


def test_deeper_folders_belong_to_their_class():
    assert meaning(["cat/1.png", "cat/indoors/night/2.png", "dog/3.png"])["cat/indoors/night/2.png"] == ("", "cat")


def test_train_and_test_folders_are_splits():
    names = ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png"]
    assert meaning(names) == {
        "train/cat/1.png": ("train", "cat"),
        "train/dog/1.png": ("train", "dog"),
        "test/cat/1.png": ("test", "cat"),
        "test/dog/1.png": ("test", "dog"),
    }


@pytest.mark.parametrize("alias", ["val", "valid", "validation", "Val", "VALIDATION"])
def test_the_validation_folder_has_several_names(alias):
    names = [f"{split}/{kind}/1.png" for split in ("train", alias, "test") for kind in ("cat", "dog")]
    assert meaning(names)[f"{alias}/dog/1.png"] == ("val", "dog")


@pytest.mark.parametrize("wrapper", ["pets/", "pets/version 2/", "pets/images/raw/"])
def test_a_single_directory_around_everything_is_looked_through(wrapper):
    assert meaning([f"{wrapper}cat/1.png", f"{wrapper}dog/1.png"])[f"{wrapper}cat/1.png"] == ("", "cat")


def test_a_single_directory_around_splits_is_looked_through():
    names = [f"pets/{split}/{kind}/1.png" for split in ("train", "test") for kind in ("cat", "dog")]
    assert meaning(names)["pets/test/dog/1.png"] == ("test", "dog")


@pytest.mark.parametrize("folder_name", ["train", "Train"])
def test_a_train_folder_alone_is_a_split_and_no_wrapper(folder_name):
    names = [f"{folder_name}/cat/1.png", f"{folder_name}/dog/1.png"]
    assert meaning(names)[names[0]] == ("train", "cat")


def test_a_class_may_be_called_train():
    assert meaning(["bus/1.png", "car/1.png", "train/1.png"])["train/1.png"] == ("", "train")


def test_a_class_may_be_called_train_below_a_split():
    names = [f"{split}/{kind}/1.png" for split in ("train", "test") for kind in ("bus", "train")]
    assert meaning(names)["train/train/1.png"] == ("train", "train")


@pytest.mark.parametrize(
    ("names", "stray"),
    [
        (["cat/1.png", "dog/1.png", "logo.png"], "logo.png"),
        (["1.png", "2.png"], "1.png"),
    ],
)
def test_an_image_outside_a_class_folder_is_refused(names, stray):
    with pytest.raises(DataError, match=f"{stray}: lies outside a class folder; expected one sub-folder per class"):
        arrange(names)


@pytest.mark.parametrize("stray", ["train/1.png", "test/1.png", "logo.png"])
def test_an_image_outside_a_class_folder_of_its_split_is_refused(stray):
    names = ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png", stray]
    with pytest.raises(DataError, match=f"{stray}: lies outside a class folder below its split"):
        arrange(names)


@pytest.mark.parametrize(
    "names",
    [["cat/1.png", "cat/2.png"], ["train/cat/1.png", "test/cat/2.png"], ["cat/a/1.png", "cat/b/1.png", "cat/2.png"]],
)
def test_one_class_is_refused(names):
    with pytest.raises(DataError, match=r"one class only \('cat'\); a classifier needs two at least"):
        arrange(names)


def test_splits_without_train_are_refused():
    with pytest.raises(DataError, match="splits test, val are there, but no train"):
        arrange([f"{split}/{kind}/1.png" for split in ("val", "test") for kind in ("cat", "dog")])


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_that_train_lacks_is_refused(split):
    names = ["train/cat/1.png", "train/dog/1.png", f"{split}/cat/1.png", f"{split}/fox/1.png"]
    with pytest.raises(DataError, match="class 'fox' has images to test on, but none in train"):
        arrange(names)


CLASS_NAMES = st.text("abcdeéß日 -.", min_size=1, max_size=6).filter(lambda name: name not in {".", ".."})


@settings(max_examples=100, deadline=None)
@given(
    st.lists(CLASS_NAMES, min_size=2, max_size=6, unique=True),
    st.sampled_from(["", "wrapper/", "one/two/"]),
    st.randoms(use_true_random=False),
)
def test_every_image_gets_the_class_of_its_folder(kinds, wrapper, shuffled):
    names = [f"{wrapper}{kind}/{number}.png" for kind in kinds for number in range(3)]
    shuffled.shuffle(names)
    assert meaning(names) == {name: ("", name.split("/")[-2]) for name in names}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(CLASS_NAMES, min_size=2, max_size=4, unique=True),
    st.sets(st.sampled_from(["val", "test"])),
    st.sampled_from(["", "wrapper/"]),
)
def test_every_image_gets_the_split_of_its_folder(kinds, others, wrapper):
    names = [f"{wrapper}{split}/{kind}/1.png" for split in ("train", *others) for kind in kinds]
    assert meaning(names) == {name: tuple(name.removeprefix(wrapper).split("/")[:2]) for name in names}
