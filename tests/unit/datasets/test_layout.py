"""Which folder means which class and split, and what is refused because it could mean two things."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.datasets.layout import arrange
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
    with pytest.raises(DataError, match=f"{stray}: is outside a class folder; expected one sub-folder per class"):
        arrange(names)


@pytest.mark.parametrize("stray", ["train/1.png", "test/1.png", "logo.png"])
def test_an_image_outside_a_class_folder_of_its_split_is_refused(stray):
    names = ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png", stray]
    with pytest.raises(DataError, match=f"{stray}: is outside a class folder below its split"):
        arrange(names)


@pytest.mark.parametrize(
    "names",
    [["cat/1.png", "cat/2.png"], ["train/cat/1.png", "test/cat/2.png"], ["cat/a/1.png", "cat/b/1.png", "cat/2.png"]],
)
def test_one_class_is_refused(names):
    with pytest.raises(DataError, match=r"one class only \('cat'\); a classifier needs two at least"):
        arrange(names)


def test_splits_without_train_are_refused():
    with pytest.raises(DataError, match="splits test, val found, but no train"):
        arrange([f"{split}/{kind}/1.png" for split in ("val", "test") for kind in ("cat", "dog")])


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_that_train_lacks_is_refused(split):
    names = ["train/cat/1.png", "train/dog/1.png", f"{split}/cat/1.png", f"{split}/fox/1.png"]
    with pytest.raises(DataError, match="class 'fox' has images in val or test, but none in train"):
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


# --- splits by other names ---------------------------------------------------------------------------


def below(*folders, kinds=("cat", "dog")):
    return [f"{folder}/{kind}/1.png" for folder in folders for kind in kinds]


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Training", "Validation", "Testing"),
        ("TRAIN", "dev", "tests"),
        ("train", "eval", "test"),
        ("seg_train", "seg_val", "seg_test"),
        ("seg_train/seg_train", "seg_val/seg_val", "seg_test/seg_test"),
        ("train/Train", "val/valid", "test/test"),
        ("train_set", "val_set", "test_set"),
        ("trainingSet", "validationSet", "testSet"),
        ("trainset", "valset", "test1"),
        ("train2017", "val2017", "test2017"),
        ("images-train", "images-val", "images-test"),
        ("ILSVRC2012_img_train", "ILSVRC2012_img_val", "ILSVRC2012_img_test"),
        ("Train Data", "Dev Data", "Test Data"),
        ("train/images", "val/images", "test/images"),
        ("pets/train_1", "pets/val", "pets/test_1"),
    ],
)
def test_splits_have_many_names(train, val, test):
    found = meaning(below(train, val, test))
    assert [found[f"{folder}/dog/1.png"] for folder in (train, val, test)] == [
        ("train", "dog"),
        ("val", "dog"),
        ("test", "dog"),
    ]


@pytest.mark.parametrize(
    "kinds",
    [
        ("test_tube", "training_shoes"),
        ("test_tube", "beaker"),
        ("valid", "invalid"),
        ("training", "resting"),
        ("train_cat", "train_dog"),
        ("pretrain", "contest", "evaluate_me"),
        ("train_test", "other"),
    ],
)
@pytest.mark.parametrize("above", ["", "wrapper/", "train/"])
def test_classes_may_have_words_of_splits_in_their_names(kinds, above):
    found = meaning([f"{above}{kind}/1.png" for kind in kinds])
    assert found == {f"{above}{kind}/1.png": (above.strip("/").replace("wrapper", ""), kind) for kind in kinds}


def refusal(names, imageless=None):
    with pytest.raises(DataError) as told:
        arrange(names, imageless)
    return str(told.value)


@pytest.mark.parametrize(
    "names",
    [
        [*below("train", "test"), "extra/1.png"],
        below("train", "test", "extra"),
        [*below("train"), "extra/1.png"],
        ["cat/1.png", "dog/1.png", "test/1.png"],
        ["cat/1.png", "train/1.png", "valid/1.png"],
        ["train/1.png", "train_masks/1.png"],
        ["cat/1.png", "dog/1.png", "unlabeled/1.png"],
        below("trainingSet", "trainingSample", "testSet"),
    ],
)
def test_names_of_splits_beside_others_are_refused_with_the_tree(names):
    first, *tree = refusal(names).splitlines()
    assert first.startswith("names of splits (")
    assert "rename or move" in first
    assert tree[0] == f"./: {len(names)} images"
    for folder in {name.split("/")[0] for name in names}:
        count = sum(name.startswith(f"{folder}/") for name in names)
        assert f"  {folder}/: {count} image{'s' * (count != 1)}" in tree


def test_the_tree_is_short_for_many_folders():
    names = below("test", *(f"other{number:03}" for number in range(500)), kinds=[f"{n:03}" for n in range(30)])
    told = refusal(names)
    assert len(told.splitlines()) < 100
    assert "493 folders more" in told
    assert "22 folders more" in told


@pytest.mark.parametrize(
    ("folders", "split"),
    [
        (("train", "Train"), "train"),
        (("train", "val", "valid", "test"), "val"),
        (("train", "dev", "eval"), "val"),
        (("train1", "train2", "test"), "train"),
        (("cat_train", "cat_test", "dog_train", "dog_test"), "t"),
    ],
)
def test_two_folders_of_one_split_are_refused(folders, split):
    assert f"all mean the {split}" in refusal(below(*folders))


@pytest.mark.parametrize(
    ("names", "inner"),
    [
        (below(*(f"x/{above}{split}" for above in ("", "x/") for split in ("train", "val", "test"))), "x/x"),
        (below("train", "test", "copy/deep/train", "copy/deep/test"), "copy/deep"),
        (["rose/1.png", "tulip/1.png", "flowers/rose/1.png", "flowers/tulip/1.png"], "flowers"),
    ],
)
def test_nested_copies_are_refused_with_the_path_to_take(names, inner):
    assert f"and again in {inner}/; remove one of the two, or set dataset.path to the folder {inner}" in refusal(names)


def test_a_copy_of_the_classes_within_a_split_is_refused():
    told = refusal(below("train", "train/train", "test"))
    assert "cat/, dog/ are in train/ and again in train/train/; remove one of the two." in told


@pytest.mark.parametrize(
    "names",
    [
        below("Part_A", "Part_B"),
        [*below("Part_A", "Part_B"), "misc/1.png"],
        [*below("Part_A", "Part_B"), "Part_A/fox/1.png"],
        below("train/Part_A", "train/Part_B", "test/Part_A", "test/Part_B"),
        [f"{kind}/{split}/1.png" for kind in ("Part_A", "Part_B") for split in ("train", "test")],
        [*below("Part_A"), "Part_B/cat/1.png"],
        [*below("Part_A"), "Part_B/cat/1.png", "Part_B/horse/1.png"],
    ],
)
def test_classes_that_hold_the_same_folders_are_refused_with_the_tree(names):
    told = refusal(names)
    assert told.startswith("Part_A/, Part_B/ hold folders of the same names, ")
    assert "which of them are the classes?" in told
    assert f": {len(names)} images" in told


@pytest.mark.parametrize(
    ("names", "held"),
    [
        ([*below("pets/train"), "plants/rose/1.png", "plants/tulip/1.png"], "train/"),
        ([*below("pets/train", "pets/test"), "plants/rose/1.png"], "test/, train/"),
        (["pets/train/1.png", "pets/test/1.png", "plants/1.png"], "test/, train/"),
        (["train/pets/train/1.png", "train/pets/val/1.png", "train/plants/1.png"], "train/, val/"),
        (["pets/1.png", "pets/train/1.png", "pets/test/1.png", "plants/1.png"], "test/, train/"),
    ],
)
def test_a_class_that_is_divided_into_splits_is_refused_with_the_tree(names, held):
    told = refusal(names)
    assert f"pets/ is where a class is expected, but holds {held}, as a whole dataset does" in told
    assert f": {len(names)} images" in told


@pytest.mark.parametrize(
    "names",
    [
        ["cat/images/1.png", "dog/images/1.png"],
        ["vehicles/train/1.png", "animals/1.png"],
        ["vehicles/train/1.png", "vehicles/car/1.png", "animals/test/1.png", "animals/2.png"],
        ["cat/a/1.png", "cat/b/1.png", "dog/c/1.png", "dog/d/1.png"],
        ["cat/a/1.png", "cat/b/1.png", "cat/1.png", "dog/a/1.png", "dog/b/1.png", "dog/1.png"],
    ],
)
def test_other_folders_below_classes_are_of_their_class(names):
    assert meaning(names) == {name: ("", name.split("/")[0]) for name in names}


# --- images without a class --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unlabeled",
    ["test", "Test", "test1", "test/test", "pred", "pred/pred", "predictions/a/b", "unlabeled", "pred_images"],
)
def test_images_to_predict_are_left_out(unlabeled):
    names = [f"{unlabeled}/{number}.png" for number in range(3)] + below("train")
    labels, splits, classes = arrange(names)
    assert labels.tolist() == [-1, -1, -1, 0, 1]
    assert splits.tolist()[3:] == ["train", "train"]
    assert classes == ("cat", "dog")


def test_images_to_predict_are_left_out_beside_a_test_split():
    names = [*below("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred/1.png", "seg_pred/2.png"]
    labels, splits, _ = arrange(names)
    assert labels.tolist() == [0, 1, 0, 1, -1, -1]
    assert splits.tolist() == ["train", "train", "test", "test", "", ""]


def test_a_class_called_test_is_not_taken_for_images_without_one():
    names = [*below("train", kinds=("control", "test")), "test/test/1.png"]
    assert meaning(names)["test/test/1.png"] == ("test", "test")


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_without_a_class_are_refused_in_other_splits(split):
    names = [*below(*({"train", "val", "test"} - {split})), f"{split}/1.png"]
    assert f"{split}/1.png: is outside a class folder below its split" in refusal(names)


# --- folders without images --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "folder", "kinds", "held"),
    [
        (["cat/1.png", "dog/1.png"], "fox", {".heic": 12, "hidden": 1}, "12 .heic, 1 hidden"),
        (["cat/1.png", "dog/1.png"], "fox", {}, "empty"),
        (["cat/1.png"], "fox", {".heic": 1}, "1 .heic"),
        (["pets/cat/1.png", "pets/dog/1.png"], "pets/fox", {".txt": 1}, "1 .txt"),
        (below("train", "test"), "train/fox", {}, "empty"),
        (below("train/train", "test/test"), "train/train/fox", {}, "empty"),
    ],
)
def test_a_class_without_an_image_is_refused(names, folder, kinds, held):
    told = refusal(names, {folder: kinds})
    assert f"{folder}/ has no image in it ({held}), but is next to the class folders" in told


def test_a_class_may_lack_images_in_one_split():
    names = [*below("train", "test"), "train/fox/1.png"]
    assert arrange(names, {"test/fox": {}})[2] == ("cat", "dog", "fox")


@pytest.mark.parametrize("folder", ["test", "Testing", "valid"])
def test_a_split_without_an_image_is_refused(folder):
    told = refusal(below("train"), {folder: {".heic": 4}})
    assert f"{folder}/ has no image in it (4 .heic), but its name is that of a split" in told


@pytest.mark.parametrize("kinds", [{}, {".heic": 1}, {".txt": 5, ".heic": 1}])
@pytest.mark.parametrize(
    "names", [["cat/in/1.png", "cat/out/1.png"], below("train", "test"), below("a/train", "a/test")]
)
def test_a_folder_beside_the_others_that_may_have_lost_its_images_is_refused(names, kinds):
    assert "dog/ has no image in it" in refusal(names, {"dog": kinds})


@pytest.mark.parametrize("folder", ["labels", "predictions", "train/cat/masks", "train/cat/empty"])
def test_documents_beside_the_splits_and_folders_within_classes_are_no_classes(folder):
    kinds = {} if folder.startswith("train/") else {".txt": 5, ".csv": 1}
    assert arrange(below("train", "test"), {folder: kinds})[2] == ("cat", "dog")


def test_a_hidden_file_beside_documents_changes_nothing():
    assert arrange(below("train", "test"), {"labels": {".txt": 5, "hidden": 1}})[2] == ("cat", "dog")
    assert "labels/ has no image in it (1 hidden)" in refusal(below("train", "test"), {"labels": {"hidden": 1}})


def test_documents_beside_the_folder_of_images_are_no_class():
    assert arrange(["images/cat/1.png", "images/dog/1.png"], {"annotations": {".xml": 2}})[2] == ("cat", "dog")


WORDS = ["train", "test", "val", "pred", "cat", "dog", "images", "seg_train", "seg_test", "a"]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(WORDS), max_size=4).map(lambda parts: "/".join([*parts, "1.png"])), min_size=1)
)
def test_whatever_the_tree_it_is_read_whole_or_refused(names):
    try:
        labels, splits, classes = arrange(names)
    except DataError:
        return
    assert len(labels) == len(splits) == len(names)
    assert len(classes) > 1
    for name, label, split in zip(names, labels, splits, strict=True):
        assert split in ("", "train", "val", "test")
        if label >= 0:
            assert classes[label] in name.split("/")[:-1]
        else:
            assert any(word in name for word in ("test", "pred"))
    assert {split for split, label in zip(splits, labels, strict=True) if label >= 0} & {"", "train"}
