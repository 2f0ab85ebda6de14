"""How people's folders, archives and names may be, and what is read of them: the other table of docs/own-images.md."""

import unicodedata
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tests.unit.datasets.folders import as_directory, as_tar, as_zip
from tests.unit.images.image_files import encoded

KINDS = ("cats", "dogs")


def pictures(folder, count=2, suffix=".png", form="PNG"):
    """Some pictures in a folder: {name: content}."""
    place = f"{folder}/" if folder else ""
    seeds = [[*f"{folder}{suffix}".encode(), number] for number in range(count)]
    pixels = [np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8) for seed in seeds]
    return {f"{place}{number}{suffix}": encoded(each, form) for number, each in enumerate(pixels)}


def classes(*folders, kinds=KINDS, **how):
    """Pictures of each class in each folder."""
    found = {}
    for folder in folders:
        for kind in kinds:
            found |= pictures(f"{folder}/{kind}" if folder else kind, **how)
    return found


def zipped_on_windows(path, files):
    """A zip whose names are GBK and that does not say so."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name.encode("gbk").decode("cp437"))
            info.create_system = 0
            archive.writestr(info, content)
    # zipfile sets the flag for UTF-8 wherever a name is not ASCII, and writes it so.
    content = path.read_bytes()
    for name in files:
        raw = name.encode("gbk")
        wrong = raw.decode("cp437").encode()
        content = content.replace(wrong, raw + b"_" * (len(wrong) - len(raw)))
    cleared = bytearray(content)
    for magic, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = cleared.find(magic)
        while at != -1:
            cleared[at + place + 1] &= ~8
            at = cleared.find(magic, at + 4)
    path.write_bytes(bytes(cleared))
    return path


def as_archives(path, files):
    """A directory with a zip for each of the topmost folders."""
    path.mkdir()
    for folder in sorted({name.partition("/")[0] for name in files}):
        as_zip(
            path / f"{folder}.zip", {name[len(folder) + 1 :]: files[name] for name in files if name.startswith(folder)}
        )
    return path


@dataclass(frozen=True)
class Layout:
    """``files`` of which ``splits`` and ``classes`` are read and ``left_out`` files are not, or that is refused.

    ``about`` and ``read`` are what the documentation says. ``make`` writes the files; ``dataset`` are settings.
    """

    about: str
    read: str
    files: dict[str, bytes | None]
    splits: dict[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = KINDS
    left_out: int = 0
    refused: str = ""
    make: Callable[[Path, dict[str, Any]], Path] = as_directory
    dataset: dict[str, Any] = field(default_factory=dict)


NOT_SPLIT = {"": 4}
BOTH = {"train": 4, "test": 4}
TABLE = b"image_id;diagnosis;patient_id\r\n0;cats;a\r\n1;dogs;b\r\n2;cats;c\r\n3;dogs;d\r\n"

LAYOUTS = [
    Layout("`cats/…`, `dogs/…`", "a class each; val and test are cut from all", classes(""), NOT_SPLIT),
    Layout("one folder around them", "the inner folder is read", classes("pets"), NOT_SPLIT),
    Layout(
        "`train/cats/…`, `test/cats/…`", "splits and classes; val is cut from train", classes("train", "test"), BOTH
    ),
    Layout("`Training/`, `Testing/`", "the same", classes("Training", "Testing"), BOTH),
    Layout(
        "`train/`, `valid/` (`val`, `validation`, `dev`, `eval`), `test/`",
        "train, val and test",
        classes("train", "valid", "test"),
        BOTH | {"val": 4},
    ),
    Layout(
        "`seg_train/seg_train/…`, `seg_test/seg_test/…`",
        "splits; the inner folders are read",
        classes("seg_train/seg_train", "seg_test/seg_test"),
        BOTH,
    ),
    Layout("`train2017/`, `test2017/`", "splits", classes("train2017", "test2017"), BOTH),
    Layout(
        "classes named `valid` and `invalid`",
        "classes",
        classes("", kinds=("invalid", "valid")),
        NOT_SPLIT,
        ("invalid", "valid"),
    ),
    Layout(
        "images directly in `test/` or `pred/`",
        "left out, with their number: they have no label",
        classes("train") | pictures("pred", 3),
        {"train": 4},
        left_out=3,
    ),
    Layout(
        "`train/`, `test/` beside `extra/`",
        "refused, with the tree as it was understood",
        classes("train", "test", "extra"),
        refused="names of splits.*extra/",
    ),
    Layout(
        "`train/`, `test/` and the same again one level below",
        "refused, with the folder to name",
        classes("train", "test", "copy/train", "copy/test"),
        refused="again in copy/; remove one",
    ),
    Layout(
        "`val/` and `valid/` side by side",
        "refused: both mean val",
        classes("train", "val", "valid"),
        refused="val/, valid/ all mean the val split",
    ),
    Layout(
        "`site1/cats`, `site1/dogs`, `site2/cats`, `site2/dogs`",
        "refused: the classes are ambiguous",
        classes("site1", "site2"),
        refused="which of them are the classes",
    ),
    Layout(
        "`site1/cats`, `site1/dogs`, `site2/cats`",
        "the same",
        classes("site1") | pictures("site2/cats"),
        refused="site1/, site2/ hold folders of the same names, cats/: which of them are the classes",
    ),
    Layout(
        "`pets/train/…`, `plants/…`",
        "refused: pets is divided into splits, as a whole dataset is",
        classes("pets/train", "plants"),
        refused="pets/ is where a class is expected",
    ),
    Layout(
        "a class folder without an image",
        "refused, with what is in it",
        classes("") | {"foxes/1.txt": b"x", "foxes/2.txt": b"x"},
        refused=r"foxes/ has no image in it \(2 \.txt\)",
    ),
    Layout(
        "an empty class folder, not in val or test",
        "refused",
        classes("") | {"foxes/": None},
        refused=r"foxes/ has no image in it \(empty\)",
    ),
    Layout(
        "images beside the class folders",
        "refused",
        classes("") | pictures("", 1),
        refused="is outside a class folder",
    ),
    Layout("one class", "refused", classes("", kinds=("cats",)), refused=r"one class only \('cats'\)"),
    Layout(
        "a class in test that train lacks",
        "refused",
        classes("train", "test") | pictures("test/foxes"),
        refused="class 'foxes' has images in val or test, but none in train",
    ),
    Layout("a zip", "as the folder in it", classes("train", "test"), BOTH, make=as_zip),
    Layout("a tar, compressed or not", "as the folder in it", classes("train", "test"), BOTH, make=as_tar),
    Layout(
        "archives alone: `train.zip`, `test.zip`, or `cats.tar`, `dogs.tar`",
        "each as a folder of its name",
        classes("train", "test"),
        BOTH,
        make=as_archives,
    ),
    Layout(
        "`birds-0001.zip`, `birds-0002.zip`, …",
        "one folder `birds`",
        classes("birds-0001") | classes("birds-0002", suffix=".jpg", form="JPEG"),
        {"": 8},
        make=as_archives,
    ),
    Layout(
        "`grade_1.zip`, `grade_2.zip`, `healthy.zip`",
        "refused: classes or parts of one archive",
        pictures("grade_1") | pictures("grade_2") | pictures("healthy"),
        refused=r"are grade_1\.zip, grade_2\.zip classes, or parts of one archive\? Unpack",
        make=as_archives,
    ),
    Layout(
        "archives beside images",
        "left out, counted",
        classes("") | {"more.zip": b"PK"},
        NOT_SPLIT,
        left_out=1,
    ),
    Layout(
        "a member of an archive that leads outside",
        "refused",
        {"../cats/1.png": b"x"},
        refused="leads outside",
        make=as_zip,
    ),
    Layout("files named .jfif, .jpe, .JPG", "JPEG", classes("", suffix=".jfif", form="JPEG"), NOT_SPLIT),
    Layout(
        "files without a suffix, or with a wrong one",
        "what their content is",
        classes("", suffix=".dat", form="GIF"),
        NOT_SPLIT,
    ),
    Layout(
        "`notes.txt`, `.DS_Store`, `Thumbs.db`, `__MACOSX/`",
        "left out, counted by suffix",
        classes("")
        | dict.fromkeys(("cats/notes.txt", "cats/.DS_Store", "dogs/Thumbs.db", "__MACOSX/cats/._0.png"), b"x"),
        NOT_SPLIT,
        left_out=4,
    ),
    Layout(
        "`café` typed on a Mac and on Windows",
        "one class",
        pictures(unicodedata.normalize("NFC", "train/café"))
        | pictures(unicodedata.normalize("NFD", "test/café"))
        | classes("train", "test", kinds=("thé",)),
        BOTH,
        ("café", "thé"),
    ),
    Layout(
        "a zip from a Chinese Windows",
        "refused, with what its names may be",
        classes("", kinds=("猫咪", "小狗")),
        refused="dataset.encoding.*gbk",
        make=zipped_on_windows,
    ),
    Layout(
        "the same with `dataset.encoding: gbk`",
        "its names",
        classes("", kinds=("猫咪", "小狗")),
        NOT_SPLIT,
        ("小狗", "猫咪"),
        make=zipped_on_windows,
        dataset={"encoding": "gbk"},
    ),
    Layout(
        "images in any folder and `labels.csv`, with `dataset.labels`",
        "the table's classes, splits and groups",
        pictures("scans", 4) | {"labels.csv": TABLE},
        NOT_SPLIT,
        left_out=1,
        dataset={"labels": "labels.csv"},
    ),
    Layout(
        "the same without `dataset.labels`",
        "refused: one class",
        pictures("scans", 4) | {"labels.csv": TABLE},
        refused=r"one class only \('scans'\).*; if a \.csv file holds the labels, name it in dataset\.labels "
        r"\(or --labels of init\)$",
    ),
]
