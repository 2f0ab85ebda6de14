"""Pictures from the server's inbox: in train with the labels that people gave, and nothing else moves by them."""

import numpy as np
import pytest
from PIL import Image
from tests.unit.datasets.folders import FOLDER, quiet

from darkroom.config.settings import Dataset, Preprocess
from darkroom.datasets.archives import list_images
from darkroom.datasets.folder import label_source
from darkroom.datasets.inbox import Accepted, table_of, write_accepted
from darkroom.datasets.splits import assign_rows
from darkroom.errors import DataError


def write(path, seed, shape=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).save(path)


def line(file, label):
    return Accepted(file, label, "m", "1", "cat", "0.5", "unlike", "2026-01-01T00:00:00+00:00", "Ann", "2026-01-02")


def arranged(source, layout):
    """Sixty images in a layout: the settings of the dataset."""
    rows = []
    for number in range(60):
        kind = ("cat", "dog")[number % 2]
        folder = f"{('train', 'test')[number % 6 > 3]}/{kind}" if layout == "splits" else kind
        write(source / folder / f"{number}.png", number)
        rows.append(f"{folder}/{number}.png,{kind},{number // 4}")
    if layout == "table":
        (source / "labels.csv").write_text("\n".join(["file,label,group", *rows]))
    return Dataset(name="folder", path=str(source), labels="labels.csv" if layout == "table" else None)


def add(source, count):
    """Pictures of the inbox, which a cut by their contents would bring to every split."""
    for number in range(count):
        write(source / "inbox" / f"{number}.png", 1000 + number)
    write_accepted(table_of(source), [line(f"{number}.png", ("cat", "dog")[number % 2]) for number in range(count)])


def read(settings, tmp_path):
    """The label and the split of each image by its name."""
    FOLDER.download(settings, tmp_path / "raw", quiet)
    (tmp_path / "scratch").mkdir(exist_ok=True)
    decoded = FOLDER.decode(tmp_path / "raw", Preprocess(), tmp_path / "scratch", quiet)
    rows = assign_rows(decoded, Preprocess(), decoded.digests)
    assert sum(map(len, rows.values())) == len(decoded.names)
    return {
        decoded.names[row]: (decoded.classes[decoded.labels[row]], split) for split in rows for row in rows[split]
    }, decoded


@pytest.mark.parametrize("layout", ["classes", "splits", "table"])
def test_they_are_in_train_and_every_other_image_stays_in_its_split(tmp_path, layout):
    source = tmp_path / "images"
    settings = arranged(source, layout)
    before, _ = read(settings, tmp_path)
    add(source, 40)
    after, decoded = read(settings, tmp_path)
    added = {f"inbox/{number}.png": (("cat", "dog")[number % 2], "train") for number in range(40)}
    assert after == before | added
    assert {split for _, split in before.values()} == {"train", "val", "test"}
    assert any("40 images of the train split from the inbox" in note for note in decoded.notes)
    if layout == "table":
        assert len(np.unique(decoded.groups[decoded.splits == "inbox"])) == 40


@pytest.mark.parametrize(
    ("shape", "size", "kept"),
    [
        # About 64x64 pixels of the shape of photographs, which are of two sizes here, and the model saw 56x72.
        ((30, 40), (56, 72), (56, 72)),
        # All of one size, and the model saw another one, by a setting of then.
        ((8, 8), (8, 8), (32, 48)),
        # Images in color, and the model saw them gray.
        ((8, 8, 3), (8, 8), (8, 8)),
    ],
)
def test_a_picture_of_the_inbox_changes_neither_size_nor_channels_nor_notes(tmp_path, shape, size, kept):
    source = tmp_path / "images"
    for number in range(30):
        scale = 2 if number % 2 and shape == (30, 40) else 1
        write(
            source / ("cat", "dog")[number % 2] / f"{number}.png",
            number,
            (shape[0] * scale, shape[1] * scale, *shape[2:]),
        )
    settings = Dataset(name="folder", path=str(source))
    _, before = read(settings, tmp_path)
    for number in range(40):
        write(source / "inbox" / f"{number}.png", 1000 + number, kept)
    write_accepted(table_of(source), [line(f"{number}.png", "cat") for number in range(40)])
    _, after = read(settings, tmp_path)
    assert after.decoder == before.decoder
    assert after.decoder.size == size
    assert after.decoder.channels == (shape[2] if len(shape) == 3 else 1)
    assert [note for note in after.notes if "from the inbox" not in note] == list(before.notes)


def test_an_empty_table_changes_nothing_and_pictures_beside_it_are_left_out(tmp_path):
    source = tmp_path / "images"
    settings = arranged(source, "classes")
    before, _ = read(settings, tmp_path)
    write_accepted(table_of(source), [])
    write(source / "inbox" / "1.png", 1)
    after, decoded = read(settings, tmp_path)
    assert after == before
    assert any("does not name 1 image beside it, such as inbox/1.png; left out" in text for text in decoded.warnings)


def test_without_its_table_the_images_are_as_before(tmp_path):
    source = tmp_path / "images"
    settings = arranged(source, "classes")
    before, _ = read(settings, tmp_path)
    add(source, 3)
    read(settings, tmp_path)
    for path in (source / "inbox").iterdir():
        path.unlink()
    (source / "inbox").rmdir()
    assert read(settings, tmp_path)[0] == before


@pytest.mark.parametrize("layout", ["classes", "splits", "table"])
def test_after_the_last_picture_was_removed_the_images_are_as_before(tmp_path, layout):
    source = tmp_path / "images"
    settings = arranged(source, layout)
    before, _ = read(settings, tmp_path)
    add(source, 1)
    read(settings, tmp_path)
    header, _ = table_of(source).read_text().splitlines()
    table_of(source).write_text(f"{header}\n")
    (source / "inbox/0.png").unlink()
    assert read(settings, tmp_path)[0] == before
    names, inventory = list_images(source)
    assert len(label_source(source, settings.labels, names, inventory).rows) == len(before)


def test_a_class_called_inbox_that_lost_its_images_is_still_refused(tmp_path):
    source = tmp_path / "images"
    settings = arranged(source, "classes")
    (source / "inbox").mkdir()
    with pytest.raises(DataError, match="inbox/ has no image in it"):
        read(settings, tmp_path)


def test_what_init_and_inspect_say_is_what_is_read(tmp_path):
    source = tmp_path / "images"
    arranged(source, "classes")
    add(source, 3)
    names, inventory = list_images(source)
    labeled = label_source(source, None, names, inventory)
    assert labeled.classes == ("cat", "dog")
    assert (labeled.splits == "inbox").sum() == 3


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("file,label\n", r"labels.csv: line 1: the columns are 'file,label'; expected the file,label,model,"),
        ("", r"line 1: the columns are ''"),
        ("{header}\n1.png,cat\n", r"line 2: expected a file, a label and 10 cells in all, found 2"),
        ("{header}\n1.png,,,,,,,,,\n", r"line 2: expected a file, a label"),
        ("{header}\n{row}{row}", r"2 lines of 0.png; an image has one line"),
        ("{header}\n9.png,cat,,,,,,,,\n", r"names 1 image that is not in dataset.path, such as inbox/9.png"),
        ("{header}\n0.png,cot,,,,,,,,\n", r"'cot' of inbox/0.png is no class of the other images; did you mean 'cat'"),
    ],
)
def test_a_damaged_table_is_refused_with_its_line(tmp_path, text, pattern):
    source = tmp_path / "images"
    settings = arranged(source, "classes")
    add(source, 1)
    header, row = table_of(source).read_text().splitlines()
    table_of(source).write_text(text.format(header=header, row=f"{row}\n"))
    with pytest.raises(DataError, match=pattern):
        read(settings, tmp_path)
