"""What is left out of a folder: every file is packed or counted, and a class without an image is told."""

import io
import json
import os
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.unit.datasets.folders import as_directory, as_tar, as_zip

from darkroom.datasets import inventory
from darkroom.datasets.archives import list_images, pack
from darkroom.datasets.inventory import LEFT_OUT, Inventory, in_words
from darkroom.errors import DataError


def image(kind):
    stream = io.BytesIO()
    Image.new("L", (2, 2)).save(stream, kind)
    return stream.getvalue()


FILES = {
    "cat/1.jpg": b"any",
    "cat/2": image("PNG"),
    "cat/3.txt": image("GIF"),
    "cat/4.dat": image("PPM"),
    "cat/notes.txt": b"text",
    "cat/NOTES.TXT": b"text",
    "cat/.hidden.png": b"hidden",
    "__MACOSX/cat/._1.jpg": b"hidden",
    "dog/1.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "dog/deeper/README": b"text",
    "empty/deeper/": None,
    "fox/1.png": b"any",
    "fox/masks/1.mat": b"mask",
    ".git/objects/1.png": b"hidden",
    "scan.12345": b"a number and no suffix",
}
IMAGES = {"cat/1.jpg", "cat/2", "cat/3.txt", "cat/4.dat", "fox/1.png"}
KINDS = {".txt": 2, ".heic": 1, ".mat": 1, "hidden": 3, "without a suffix": 2}
IMAGELESS = {
    "dog": {".heic": 1, "without a suffix": 1},
    "empty": {},
    "fox/masks": {".mat": 1},
}


SOURCES = {"directory": as_directory, "zip": as_zip, "tar": as_tar}


@pytest.mark.parametrize("kind", SOURCES)
def test_images_are_known_by_content_and_all_else_is_counted(tmp_path, kind):
    source = SOURCES[kind](tmp_path / "source", FILES)
    found = pack(source, tmp_path / "raw" / "images.zip")
    with zipfile.ZipFile(tmp_path / "raw" / "images.zip") as packed:
        assert set(packed.namelist()) == IMAGES
        assert all(packed.read(name) == FILES[name] for name in IMAGES)
    assert found.left_out == KINDS
    assert list(found.left_out.values()) == sorted(KINDS.values(), reverse=True)
    assert found.folders == IMAGELESS
    assert (found.images, found.files) == (len(IMAGES), len(FILES) - 1)
    assert set(found.examples) == {
        name for name in FILES if name not in IMAGES and FILES[name] is not None and "/." not in f"/{name}"
    } - {"__MACOSX/cat/._1.jpg"}


def test_what_was_left_out_lies_beside_the_pack(tmp_path):
    found = pack(as_directory(tmp_path / "source", FILES), tmp_path / "raw" / "images.zip")
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == ["images.zip", "left_out.json"]
    written = json.loads((tmp_path / "raw" / "left_out.json").read_text())
    assert written["left_out"] == KINDS
    assert written["images"] + sum(written["left_out"].values()) == written["files"] == len(FILES) - 1
    assert Inventory.read(tmp_path / "raw", len(IMAGES)) == found


def test_packing_again_changes_no_byte_and_other_files_change_no_pack(tmp_path):
    source, raw = as_directory(tmp_path / "source", FILES), tmp_path / "raw"
    pack(source, raw / "images.zip")
    before = {path.name: path.read_bytes() for path in raw.iterdir()}
    pack(source, raw / "images.zip")
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == before
    (source / "more.txt").write_text("more")
    pack(source, raw / "images.zip")
    assert (raw / "images.zip").read_bytes() == before["images.zip"]
    assert (raw / LEFT_OUT).read_bytes() != before[LEFT_OUT]


@pytest.mark.parametrize("kind", SOURCES)
def test_listing_tells_what_packing_would_do(tmp_path, kind):
    source = SOURCES[kind](tmp_path / "source", FILES)
    names, found = list_images(source)
    assert names == sorted(IMAGES)
    assert found == pack(source, tmp_path / "raw" / "images.zip")


NAMES = st.lists(st.sampled_from(["a", "b.png", ".c", "d.txt", "__MACOSX", "e"]), min_size=1, max_size=4).map("/".join)


@settings(max_examples=60, deadline=None)
@given(st.sets(NAMES, min_size=1, max_size=12))
def test_packed_and_left_out_files_are_all_files(tmp_path_factory, names):
    # No file may be a folder to another one.
    files = {f"{name}/f{number % 3}{'.jpg' * (number % 2)}": b"text" for number, name in enumerate(sorted(names))}
    source = as_directory(tmp_path_factory.mktemp("files") / "source", files | {"one.png": b"image"})
    found = pack(source, source.parent / "images.zip")
    on_disk = sum(len(names) for _, _, names in os.walk(source))
    with zipfile.ZipFile(source.parent / "images.zip") as packed:
        assert len(packed.namelist()) == found.images
    assert found.images + sum(found.left_out.values()) == found.files == on_disk
    for folder, kinds in found.folders.items():
        inside = [path for path in (source / folder).rglob("*") if path.is_file()]
        assert len(inside) == sum(kinds.values())
        assert not [name for name in list_images(source)[0] if Path(folder) in Path(name).parents]


def test_a_pipe_is_no_file_and_is_not_waited_for(tmp_path):
    source = as_directory(tmp_path / "source", {"cat/1.png": b"x"})
    os.mkfifo(source / "cat" / "pipe")
    assert pack(source, tmp_path / "images.zip").files == 1


def test_a_source_without_images_is_refused_with_what_it_holds(tmp_path):
    source = as_directory(tmp_path / "source", {"cat/1.heic": b"x", "cat/2.heic": b"x", "notes.txt": b"x"})
    with pytest.raises(DataError, match=r"no images .* found; .* \(left out: 3 files \(2 \.heic, 1 \.txt\)"):
        pack(source, tmp_path / "images.zip")


def test_many_kinds_and_folders_are_cut_and_still_add_up(tmp_path, monkeypatch):
    monkeypatch.setattr(inventory, "MAX_KINDS", 3)
    monkeypatch.setattr(inventory, "MAX_FOLDERS", 2)
    files = {f"{kind * 2}/{number}.{kind}": b"x" for kind in "abcdef" for number in range(3)}
    found = pack(as_directory(tmp_path / "source", files | {"1.png": b"x"}), tmp_path / "images.zip")
    assert found.left_out == {".a": 3, ".b": 3, ".c": 3, "of other kinds": 9}
    assert list(found.folders) == ["aa", "bb"]


@pytest.mark.parametrize(
    ("left_out", "line"),
    [
        ({}, "left out: none"),
        ({".txt": 1}, "left out: 1 file (1 .txt), such as a/1.txt"),
        ({".txt": 1200, "hidden": 2}, "left out: 1,202 files (1,200 .txt, 2 hidden), such as a/1.txt"),
    ],
)
def test_what_is_left_out_is_one_line(left_out, line):
    count = sum(left_out.values())
    assert str(Inventory(count + 3, 3, left_out, ["a/1.txt"], {})) == line


def test_counts_in_words_are_the_first_few():
    kinds = Counter({f".{letter}": 9 - number for number, letter in enumerate("abcdefg")})
    assert in_words(kinds) == "9 .a, 8 .b, 7 .c, 6 .d, 5 .e, 7 of other kinds"
    assert in_words({}) == "empty"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda path: path.unlink(), "not found; run `darkroom download` first"),
        (lambda path: path.write_text("{"), "damaged"),
        (
            lambda path: path.write_text('{"format_version": 1, "images": 5}'),
            r"damaged \(files: field required\); run",
        ),
        (lambda path: path.write_text('{"format_version": 2}'), "format version 2"),
        (lambda path: path.write_text(path.read_text().replace('"images": 5', '"images": 6')), "other images"),
    ],
)
def test_a_count_of_other_images_is_refused(tmp_path, change, match):
    pack(as_directory(tmp_path / "source", FILES), tmp_path / "raw" / "images.zip")
    change(tmp_path / "raw" / LEFT_OUT)
    with pytest.raises(DataError, match=match):
        Inventory.read(tmp_path / "raw", 5)
