"""Many pictures, brought in any way, are answered in their order and in bounded memory."""

import io
import tarfile
import zipfile
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from PIL import Image
from tests.serving.fakes import CLASSES, REFERENCE, png

from darkroom.errors import DataError
from darkroom.prediction import bulk
from darkroom.prediction.bulk import answer_all
from darkroom.prediction.inputs import InputImages
from darkroom.prediction.predictor import Predictor
from darkroom.prediction.shards import Picture


def brightness(images):
    light = images.float().mean((1, 2, 3)) / 255
    return torch.stack([1 - light, light], 1) * 10


@pytest.fixture
def predictor():
    return Predictor(brightness, CLASSES, (1, 4, 4), "1")


@pytest.fixture
def folder(tmp_path):
    """A directory of dark and bright pictures, one of them broken, and a text."""
    for name, content in {
        "b/dark/1.png": png(20),
        "b/dark/2.png": png(30, (9, 7)),
        "a/bright/1.PNG": png(240),
        "a/bright/2.png": png(230)[:40],
        "a/notes.txt": b"text",
        "a/.hidden.png": png(0),
    }.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "photos"


def answer(predictor, *shards, **options):
    """The batches of the answers for ``shards``."""
    return (answers for _, answers in answer_all(predictor, shards, **options))


def labels(found):
    """What each picture was answered: its label, or why not."""
    return {
        picture.inside: error or CLASSES[int(row.argmax())]
        for answers in found
        for picture, row, error in zip(answers.pictures, answers.probabilities, answers.errors, strict=True)
    }


EXPECTED = {
    "a/bright/1.PNG": "bright",
    "a/bright/2.png": "cannot be decoded (",
    "b/dark/1.png": "dark",
    "b/dark/2.png": "dark",
}


def as_expected(found):
    found = labels(found)
    assert list(found) == list(EXPECTED)
    assert all(found[name].startswith(label) for name, label in EXPECTED.items())


# --- what is brought -----------------------------------------------------------------------------------


def test_a_directory_is_answered_folder_by_folder_and_what_is_no_image_counted(predictor, folder):
    pictures = InputImages([str(folder)])
    assert (pictures.total, pictures.left_out) == (4, 1)
    assert pictures.left_out_names == [str(folder / "a/notes.txt")]
    assert [picture.file for picture in pictures] == [str(folder / name) for name in EXPECTED]
    as_expected(answer(predictor, pictures))


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_an_archive_is_answered_without_unpacking_it(predictor, folder, tmp_path, form):
    path = tmp_path / f"photos.{form}"
    names = [*EXPECTED, "a/notes.txt"]
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.write(folder / name, name)
    else:
        with tarfile.open(path, "w:gz" if form == "tar.gz" else "w") as archive:
            for name in names:
                archive.add(folder / name, name)
    pictures = InputImages([str(path)])
    assert pictures.total == 0  # not known yet
    assert [picture.file for picture in pictures] == [f"{path}/{name}" for name in EXPECTED]
    as_expected(answer(predictor, pictures))


def test_the_names_in_an_archive_are_read_in_the_encoding_that_is_set(tmp_path):
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("AA/1.png", png(0))
    path.write_bytes(path.read_bytes().replace(b"AA/", "猫/".encode("gbk")))
    with pytest.raises(DataError, match=r"dataset\.encoding"):
        list(InputImages([str(path)]))
    assert [picture.inside for picture in InputImages([str(path)], encoding="gbk")] == ["猫/1.png"]


@pytest.mark.parametrize("name", ["../escape.png", "/etc/picture.png"])
def test_an_archive_that_leads_outside_is_refused(predictor, tmp_path, name):
    path = tmp_path / "photos.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(png(0))
        archive.addfile(member, io.BytesIO(png(0)))
    with pytest.raises(DataError, match="leads outside the archive; refused"):
        list(answer(predictor, InputImages([str(path)])))


def test_a_damaged_archive_is_refused_in_one_line(predictor, folder, tmp_path):
    path = tmp_path / "photos.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, "photos")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="damaged or unsupported archive"):
        list(answer(predictor, InputImages([str(path)])))


def test_a_pattern_finds_images_below(folder, monkeypatch):
    for pattern in (str(folder / "**/*"), "**/*"):
        monkeypatch.chdir(folder)
        assert [picture.inside for picture in InputImages([pattern])] == list(EXPECTED)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_list_names_files_seen_from_the_working_directory(folder, tmp_path, monkeypatch, encoding):
    monkeypatch.chdir(folder)
    (tmp_path / "list.txt").write_text("b/dark/2.png\n\n  b/dark/1.png\n", encoding)
    found = list(InputImages([f"@{tmp_path}/list.txt"]))
    assert found == [Picture("b/dark/2.png", "2.png"), Picture("b/dark/1.png", "1.png")]


def test_files_are_named_by_what_their_paths_do_not_share(folder):
    found = InputImages([str(folder / "b/dark/1.png"), str(folder / "a/bright/1.PNG")])
    assert [picture.inside for picture in found] == ["b/dark/1.png", "a/bright/1.PNG"]


def test_a_folder_that_leads_back_to_one_above_is_read_once(folder):
    (folder / "b" / "again").symlink_to(folder)
    assert [picture.inside for picture in InputImages([str(folder)])] == list(EXPECTED)


@pytest.mark.parametrize(
    ("argument", "pattern"),
    [
        ("nowhere", "^nowhere: no such file$"),
        ("empty", "^empty: no images found in this directory$"),
        ("*.gif", r"^\*\.gif: no image and no archive matches this pattern$"),
        ("@nowhere", "^nowhere: cannot be read .no such file"),
        ("@empty.txt", "^empty.txt: empty; expected a path in each line$"),
        ("@wrong.txt", "^wrong.txt: line 2: x.png: no such file, seen from the working directory$"),
        ("@1.png", "^1.png: not a text in UTF-8; expected a path in each line$"),
    ],
)
def test_what_names_no_picture_is_refused_before_any_work(tmp_path, monkeypatch, argument, pattern):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "wrong.txt").write_text("1.png\nx.png\n")
    (tmp_path / "1.png").write_bytes(png(0))
    with pytest.raises(DataError, match=pattern):
        InputImages(["1.png", argument])


# --- how it is answered --------------------------------------------------------------------------------


def test_many_pictures_are_answered_in_their_order_in_batches(predictor, monkeypatch):
    monkeypatch.setattr(bulk, "PARALLEL_FROM", 20)
    monkeypatch.setattr(bulk, "processes", bulk._threads)
    monkeypatch.setattr(bulk, "BATCH", 8)
    shades = np.random.default_rng(0).integers(0, 256, 100).tolist()
    found = list(answer(predictor, (Picture(str(row), str(row), png(shade)) for row, shade in enumerate(shades))))
    assert [len(answers.errors) for answers in found] == [8] * 12 + [4]
    assert [picture.file for answers in found for picture in answers.pictures] == [str(row) for row in range(100)]
    expected = [1 / (1 + np.exp(10 - 20 * shade / 255)) for shade in shades]
    assert np.concatenate([answers.probabilities[:, 1] for answers in found]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_processes_answer_as_threads_do(predictor, monkeypatch):
    monkeypatch.setattr(bulk, "PARALLEL_FROM", 10)
    pictures = [Picture(str(row), str(row), png(row) if row % 5 else b"text") for row in range(40)]
    found = labels(answer(predictor, pictures))
    monkeypatch.undo()
    assert found == labels(answer(predictor, pictures))
    assert sum("cannot be decoded (not an image" in label for label in found.values()) == 8


def test_pictures_are_read_only_as_answers_are_taken(predictor, monkeypatch):
    monkeypatch.setattr(bulk, "PARALLEL_FROM", 20)
    monkeypatch.setattr(bulk, "processes", bulk._threads)
    monkeypatch.setattr(bulk, "BATCH", 8)
    monkeypatch.setattr(bulk.os, "cpu_count", lambda: 2)
    taken = count()

    def endless():
        while True:
            yield Picture(str(next(taken)), "", png(0))

    answers = answer(predictor, endless())
    for _ in range(3):
        next(answers)
    answers.close()
    assert next(taken) <= 8 * (3 + 5)


def test_large_files_make_small_batches(predictor, monkeypatch):
    monkeypatch.setattr(bulk, "processes", bulk._threads)
    content = png(0)
    monkeypatch.setattr(bulk, "BATCH_BYTES", 3 * len(content))
    found = answer(predictor, (Picture(str(row), "", content) for row in range(10)))
    assert [len(answers.errors) for answers in found] == [3, 3, 3, 1]


@pytest.mark.parametrize("reference", [None, REFERENCE])
def test_where_no_reference_tells_the_ground_pictures_on_another_are_noted_and_not_inverted(reference):
    unsure = Predictor(brightness, CLASSES, (1, 4, 4), "1", (0.1,), reference)
    pictures = [Picture("light", "", png(250)), Picture("dark", "", png(5))]
    (answers,) = answer(unsure, pictures)
    assert answers.perhaps_negative.tolist() == [True, False]
    assert not answers.inverted.any()
    (answers,) = answer(unsure, pictures, invert=True)
    assert not answers.perhaps_negative.any()
    assert answers.inverted.all()
    mixed = Predictor(brightness, CLASSES, (1, 4, 4), "1", (0.1,), replace(REFERENCE, ground="mixed"))
    (answers,) = answer(mixed, pictures)
    assert not (answers.perhaps_negative | answers.inverted).any()


def test_a_large_photograph_keeps_nothing_but_the_models_pixels(predictor):
    content = io.BytesIO()
    Image.new("L", (900, 700), 255).save(content, "PNG")
    (answers,) = answer(predictor, [Picture("x", "", content.getvalue())])
    assert answers.pictures[0].content is None
