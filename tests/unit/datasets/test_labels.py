"""Labels from a table: the same images as in folders of classes, and a refusal where it is not clear whose a row is."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from darkroom.config.settings import Dataset, Preprocess
from darkroom.data import cache
from darkroom.datasets.catalog import CATALOG
from darkroom.datasets.labels import label_images
from darkroom.datasets.splits import assign
from darkroom.errors import DataError

FOLDER = CATALOG["folder"]
NAMES = ["a/1.png", "a/2.png", "b/1.png", "b/3.jpg", "c/4.tar.png"]


@pytest.fixture
def label(tmp_path):
    """Label images by a table of these rows."""

    def label(rows, header="file,label", names=NAMES):
        path = tmp_path / "t.csv"
        with path.open("w", newline="", encoding="utf-8") as opened:
            csv.writer(opened).writerows([header.split(","), *rows])
        return label_images(path, sorted(names))

    return label


def meaning(found, names=NAMES):
    """{name: class} of the images that have a label."""
    assert found.labels.dtype == found.rows.dtype == np.int64
    return {sorted(names)[row]: found.classes[label] for row, label in zip(found.rows, found.labels, strict=True)}


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("a/1.png", "a/1.png"),
        ("./a/1.png", "a/1.png"),
        (r"a\1.png", "a/1.png"),
        ("a/1", "a/1.png"),
        ("2.png", "a/2.png"),
        ("2", "a/2.png"),
        ("3", "b/3.jpg"),
        ("4.tar.png", "c/4.tar.png"),
        ("4.tar", "c/4.tar.png"),
        ("/kaggle/input/b/3.jpg", "b/3.jpg"),
        ("C:/photos/b/3", "b/3.jpg"),
    ],
)
def test_a_row_is_of_the_image_that_its_file_names(label, written, name):
    other = "b/1.png" if name != "b/1.png" else "a/2.png"
    assert meaning(label([(written, "cat"), (other, "dog")])) == {name: "cat", other: "dog"}


def test_a_directory_around_everything_may_be_left_out(label):
    names = ["pets/train/1.png", "pets/test/1.png", "pets/test/2.png"]
    found = label([("train/1.png", "cat"), ("test/1", "dog")], names=names)
    assert meaning(found, names) == {"pets/train/1.png": "cat", "pets/test/1.png": "dog"}


def test_a_whole_path_counts_before_the_end_of_one(label):
    names = ["1.png", "a/1.png"]
    assert meaning(label([("1.png", "cat"), ("a/1.png", "dog")], names=names), names)["1.png"] == "cat"


def test_a_name_with_its_suffix_counts_before_one_without(label):
    names = ["a/1.png", "b/1.png.jpg"]
    assert meaning(label([("1.png", "cat"), ("1.png.jpg", "dog")], names=names), names)["a/1.png"] == "cat"


def test_files_that_are_not_there_are_refused_counted_and_shown(label):
    rows = [("a/1.png", "cat"), *((f"x{number}.png", "dog") for number in range(5))]
    match = (
        r"t\.csv: names 5 files of 6 that are not among the images, which are called a/1\.png, …: "
        r"x0\.png \(line 3\), x1\.png \(line 4\), x2\.png \(line 5\) and 2 more$"
    )
    with pytest.raises(DataError, match=match):
        label(rows)


@pytest.mark.parametrize("written", ["dogs/2.png", "/kaggle/dogs/2", "a/z/2.png"])
def test_a_path_whose_folders_are_others_is_of_no_image(label, written):
    with pytest.raises(DataError, match=rf"names 1 file of 2 that are not among the images, .*: {written} \(line 2\)$"):
        label([(written, "dog"), ("3", "cat")])


def test_a_path_from_further_up_is_of_an_image_without_a_folder(label):
    names = ["1.png", "2.png"]
    rows = [("/data/1.png", "cat"), ("data/2", "dog")]
    assert meaning(label(rows, names=names), names) == {"1.png": "cat", "2.png": "dog"}


def test_accents_of_their_own_make_no_other_file_or_label(label):
    composed, decomposed = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"
    names = [f"{decomposed}/1.png", f"{composed}/2.png", "b/3.png"]
    rows = [(f"{composed}/1.png", decomposed), (f"{decomposed}/2.png", composed), ("3", "cat")]
    found = label(rows, names=names)
    assert found.classes == (composed, "cat")
    assert len(found.rows) == 3


@pytest.mark.parametrize("written", ["1.png", "1"])
def test_a_file_that_may_be_several_images_is_refused(label, written):
    match = rf"names 1 file of 2 that may each be several images; write their paths in full: {written} \(line 2\)$"
    with pytest.raises(DataError, match=match):
        label([(written, "cat"), ("2.png", "dog")])


def test_two_rows_with_different_labels_of_one_image_are_refused(label):
    rows = [("a/1.png", "cat"), ("2.png", "dog"), ("a/1.png", "dog")]
    match = r"1 image in rows with different labels: a/1\.png \('cat' in line 2 and 'dog' in line 4\); an image has one"
    with pytest.raises(DataError, match=match):
        label(rows)


def test_two_files_that_come_to_one_image_are_refused(label):
    rows = [("x/a/2.png", "cat"), ("y/a/2.png", "cat"), ("3", "dog")]
    match = r"1 image in rows with different files: a/2\.png \('x/a/2\.png' in line 2 and 'y/a/2\.png' in line 3\)"
    with pytest.raises(DataError, match=match):
        label(rows)


@pytest.mark.parametrize(("column", "first", "second"), [("split", "train", "test"), ("patient", "p", "q")])
def test_rows_of_one_image_that_differ_otherwise_are_refused(label, column, first, second):
    with pytest.raises(DataError, match=f"1 image in rows with different {'split' if column == 'split' else 'group'}s"):
        label([("2", "cat", first), ("2", "cat", second), ("3", "dog", first)], header=f"file,label,{column}")


def test_a_row_that_is_there_twice_counts_once(label):
    assert meaning(label([("2", "cat"), ("2", "cat"), ("3", "dog")])) == {"a/2.png": "cat", "b/3.jpg": "dog"}


def test_images_that_the_table_does_not_name_are_left_out_and_counted(label):
    found = label([("2", "cat"), ("3", "dog")])
    assert found.rows.tolist() == [1, 3]
    assert found.warnings == ("t.csv does not name 3 of 5 images, such as a/1.png; left out",)


def test_nothing_is_said_of_a_table_that_names_all_images(label):
    assert label([(name, name[0]) for name in NAMES]).warnings == ()


def test_classes_are_in_the_order_of_their_names(label):
    found = label([("2", "10"), ("3", "9"), ("4.tar", "b")])
    assert (found.classes, found.labels.tolist()) == (("10", "9", "b"), [0, 1, 2])


def test_one_class_is_refused(label):
    with pytest.raises(DataError, match=r"t\.csv: one class only \('cat'\); a classifier needs two at least"):
        label([("2", "cat"), ("3", "cat")])


@pytest.mark.parametrize(
    ("written", "split"),
    [
        *(("train", "train"), ("Training", "train"), ("test", "test"), ("Testing", "test")),
        *(("VAL", "val"), ("valid", "val"), ("Validation", "val"), ("dev", "val"), ("eval", "val")),
    ],
)
def test_splits_have_their_usual_names(label, written, split):
    found = label([("2", "cat", written), ("3", "dog", "train")], header="file,label,set")
    assert found.splits.tolist() == [split, "train"]


@pytest.mark.parametrize("strange", ["holdout", "1", ""])
def test_an_unknown_split_is_refused(label, strange):
    rows = [("2", "cat", "train"), ("3", "dog", strange), ("4.tar", "dog", strange)]
    with pytest.raises(
        DataError, match=f"unknown split '{strange}' of 2 images in column 'Set'; expected one of train"
    ):
        label(rows, header="file,label,Set")


def test_a_column_of_splits_may_be_empty(label):
    assert label([("2", "cat", ""), ("3", "dog", "")], header="file,label,set").splits.tolist() == ["", ""]


SPLIT_FOLDERS = ["pets/Train/1.png", "pets/Train/2.png", "pets/test/3.png", "pets/test/4.png"]


def test_folders_of_splits_count_where_the_table_tells_none(label):
    found = label([("1", "a"), ("2", "b"), ("3", "a"), ("4", "b")], names=SPLIT_FOLDERS)
    assert found.splits.tolist() == ["train", "train", "test", "test"]
    assert found.reading.endswith("labels from column 'label'; splits from the folders")


def test_folders_of_splits_do_not_count_against_the_table(label):
    rows = [("1", "a", "test"), ("2", "b", "test"), ("3", "a", "train"), ("4", "b", "train")]
    found = label(rows, header="file,label,split", names=SPLIT_FOLDERS)
    assert found.splits.tolist() == ["test", "test", "train", "train"]


def test_a_single_folder_called_as_a_split_parts_nothing(label):
    assert label([("1", "a"), ("2", "b")], names=SPLIT_FOLDERS).splits.tolist() == ["", ""]


def test_folders_of_splits_may_have_more_words(label):
    names = ["train2017/1.png", "train2017/2.png", "val2017/3.png", "val2017/4.png"]
    found = label([("1", "a"), ("2", "b"), ("3", "a"), ("4", "b")], names=names)
    assert found.splits.tolist() == ["train", "train", "val", "val"]


def test_a_test_folder_beside_folders_of_no_split_is_refused(label):
    names = ["train/1.png", "test/2.png", "extra/3.png", "extra/4.png"]
    match = (
        r"t\.csv: some images are in folders of splits and others are not \(2 in none, 1 in test, 1 in train\), "
        r"such as extra/3\.png; move them, or give the table a column split$"
    )
    with pytest.raises(DataError, match=match):
        label([("1", "a"), ("2", "b"), ("3", "a"), ("4", "b")], names=names)


def test_groups_that_folders_of_splits_cut_need_a_column(label):
    rows = [("1", "a", "p"), ("2", "b", "p"), ("3", "a", "p"), ("4", "b", "p")]
    with pytest.raises(DataError, match="give each group one split, or a column split to the table"):
        label(rows, header="file,label,patient", names=SPLIT_FOLDERS)


def test_groups_and_all_else_go_with_the_images(label):
    rows = [("3", "cat", "q", "40"), ("2", "dog", "p", ""), ("4.tar", "dog", "q", "7")]
    found = label(rows, header="file,label,patient_id,age")
    assert found.groups.tolist() == [0, 1, 1]
    assert {name: values.tolist() for name, values in found.attributes.items()} == {
        "patient_id": ["p", "q", "q"],
        "age": ["", "40", "7"],
    }


def test_splits_that_cut_a_group_are_refused_with_their_number(label):
    rows = [("a/1", "cat", "p", "train"), ("2", "dog", "p", "test"), ("b/1", "cat", "q", "train")]
    rows += [("3", "dog", "q", "val"), ("4.tar", "dog", "r", "train")]
    match = r"the splits cut 2 of 3 groups: 'p' of column 'patient' has images in several \(1 in test, 1 in train\)"
    with pytest.raises(DataError, match=match):
        label(rows, header="file,label,patient,split")


def test_splits_that_keep_groups_whole_are_taken(label):
    rows = [("a/1", "cat", "p", "train"), ("2", "dog", "p", "train"), ("b/1", "cat", "q", "test")]
    assert label(rows, header="file,label,patient,split").splits.tolist() == ["train", "train", "test"]


PARTS = st.from_regex(r"[ab1é]([ab1.é ]{0,2}[ab1é])?", fullmatch=True)


@settings(max_examples=25, deadline=None)
@given(st.sets(st.lists(PARTS, min_size=1, max_size=3).map("/".join), min_size=2, max_size=12), st.randoms())
def test_whole_paths_always_name_their_image(tmp_path_factory, paths, shuffled):
    names = sorted(f"{path}.png" for path in paths)
    order = list(range(len(names)))
    shuffled.shuffle(order)
    path = tmp_path_factory.getbasetemp() / "whole.csv"
    with path.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([("file", "label"), *((names[row], f"class {row}") for row in order)])
    found = label_images(path, names)
    assert [found.classes[label] for label in found.labels] == [f"class {row}" for row in range(len(names))]


def picture(number):
    content = io.BytesIO()
    Image.fromarray(np.full((4, 4), number, dtype=np.uint8)).save(content, "PNG")
    return content.getvalue()


def read(root, labels=None, **changes):
    """Images that are downloaded and decoded as both stages do."""
    raw = root.parent / f"raw of {root.name}"
    FOLDER.download(Dataset(name="folder", path=str(root), labels=labels), raw, lambda *said: None)
    return FOLDER.decode(raw, Preprocess(**changes), root.parent, lambda *said: None)


def cached(decoded, directory):
    """The rows of each split, the card's fingerprint, and the list of files."""
    directory.mkdir()
    rows = assign(
        decoded.labels, decoded.splits, decoded.classes,
        val_fraction=0.2, test_fraction=0.2, seed=0, groups=decoded.groups,
    )  # fmt: skip
    card = cache.write(
        directory, decoded.images, decoded.labels, rows,
        name="folder", classes=decoded.classes, names=decoded.names, settings={}, attributes=decoded.attributes,
    )  # fmt: skip
    return rows, card.fingerprint, (directory / cache.NAMES).read_text()


def test_a_table_gives_the_same_dataset_as_folders_do(tmp_path):
    root = tmp_path / "pets"
    rows = [["image_id", "class"]]
    for number in range(30):
        kind = ("10", "9", "cat")[number % 3]
        (root / kind).mkdir(parents=True, exist_ok=True)
        (root / kind / f"IMG {number:03}.png").write_bytes(picture(number))
        rows.append([f"IMG {number:03}", kind])
    by_folder = cached(read(root), tmp_path / "by folder")
    with (root / "all of them.csv").open("w", newline="", encoding="utf-8-sig") as opened:
        csv.writer(opened, delimiter=";").writerows(rows)
    by_table = cached(read(root, "all of them.csv"), tmp_path / "by table")
    for part, own in by_folder[0].items():
        assert np.array_equal(own, by_table[0][part])
    assert by_folder[1:] == by_table[1:]


@pytest.fixture
def flat(tmp_path):
    """A directory of images without folders, with a table; the last image is broken."""
    root = tmp_path / "flat"
    root.mkdir()
    lines = ["file,label,patient,row"]
    for number in range(24):
        (root / f"{number:02}.png").write_bytes(picture(number) if number < 23 else b"\x89PNG\r\n\x1a\nbroken")
        lines.append(f"{number:02},{'cat' if number % 2 else 'dog'},p{number // 4},{number}")
    (root / "unknown.png").write_bytes(picture(200))
    (root / "labels.csv").write_text("\n".join(lines))
    return root


def test_labels_stay_with_their_pixels_where_images_are_left_out_or_broken(flat):
    decoded = read(flat, "labels.csv")
    assert decoded.names == tuple(f"{number:02}.png" for number in range(23))
    assert decoded.images[:, 0, 0, 0].tolist() == list(range(23))
    assert [decoded.classes[label] for label in decoded.labels] == ["dog", "cat"] * 11 + ["dog"]
    assert decoded.groups.tolist() == [number // 4 for number in range(23)]
    assert decoded.attributes["row"].tolist() == [str(number) for number in range(23)]
    assert list(decoded.broken) == ["23.png"]
    assert decoded.warnings == ("labels.csv does not name 1 of 25 images, such as unknown.png; left out",)


def test_the_list_of_files_keeps_what_the_table_says(flat, tmp_path):
    rows, _, listed = cached(read(flat, "labels.csv"), tmp_path / "cache")
    lines = list(csv.reader(io.StringIO(listed)))
    assert lines[0] == ["split", "row", "file", "class", "digest", "patient", "row (table)"]
    assert [[*line[:4], *line[5:]] for line in lines[1:]] == [
        [part, str(position), f"{row:02}.png", ("dog", "cat")[row % 2], f"p{row // 4}", str(row)]
        for part, own in rows.items()
        for position, row in enumerate(own.tolist())
    ]
    assert cache.read_names(tmp_path / "cache", "test") == [f"{row:02}.png" for row in rows["test"]]
