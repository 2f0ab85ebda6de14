"""Answers of many shards: what an interrupted command leaves, who may go on with it, and addresses of shards."""

import fcntl
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.serving.fakes import CLASSES, png
from tests.unit.refusals import refused

from darkroom.commands import predict
from darkroom.prediction import bulk, cluster, parts, shards
from darkroom.prediction.predictor import Predictor
from darkroom.prediction.shards import Files, Picture, RemoteFiles

PLACE = Path("answers.csv.parts")


class Brightness:
    """Tells dark from bright, and is interrupted at the batch of this number."""

    def __init__(self):
        self.batches, self.death = 0, 0

    def __call__(self, images):
        self.batches += 1
        if self.batches == self.death:
            raise KeyboardInterrupt
        light = images.float().mean((1, 2, 3)) / 255
        return torch.stack([1 - light, light], 1) * 10


@pytest.fixture
def model(project, monkeypatch):
    """The champion of a project with sixteen pictures, which are answered one by one in shards of four."""
    root, model = project(), Brightness()
    for number in range(16):
        path = root / "photos" / ("bright" if number > 7 else "dark") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(16 * number) if number != 5 else b"broken")
    for place, name, value in (
        (bulk, "BATCH", 1),
        (bulk, "PARALLEL_FROM", 1),
        (bulk, "processes", bulk._threads),
        (bulk.os, "cpu_count", lambda: 1),
        (shards, "SHARD", 4),
        (
            predict,
            "_champion",
            lambda config, workspace: Predictor(model, CLASSES, (1, 4, 4), model.version, mean=(0.5,)),
        ),
    ):
        monkeypatch.setattr(place, name, value)
    model.version = "1"
    return model


@pytest.fixture
def ask(darkroom):
    return lambda *arguments: darkroom("predict", "photos", "--output", "answers.csv", *arguments)


@pytest.fixture
def interrupted(model, ask):
    """Parts of some shards."""
    model.death = 12
    assert ask()[0] == 130
    model.death = 0
    return model


def test_a_command_that_was_interrupted_answers_only_what_is_missing(darkroom, interrupted, ask):
    assert not Path("answers.csv").exists()
    assert len(list(PLACE.glob("*.arrow"))) == 2
    interrupted.batches = 0

    code, output, errors = ask()

    assert code == 0
    assert f"{PLACE}: 2 of 4 shards had been answered" in errors
    assert interrupted.batches == 7  # of the eight that were missing one is broken, and not shown to the model
    assert "15 of 15 are the class that their folder is named as" in output
    assert not PLACE.exists()
    assert darkroom("predict", "photos", "--output", "again.csv")[0] == 0
    assert Path("again.csv").read_bytes() == Path("answers.csv").read_bytes()
    assert not Path("again.csv.parts").exists()


def test_pictures_that_have_changed_since_are_answered_again(interrupted, ask):
    for path in Path("photos").rglob("*.png"):
        path.write_bytes(png(255, (5, 5)))
    assert ask()[0] == 0
    assert Path("answers.csv").read_text().count(",bright,") == 16


@pytest.mark.parametrize(
    ("version", "arguments", "pattern"),
    [
        (
            "2",
            [],
            rf"^error: {PLACE}: answers of an interrupted command with another model \(1, now 2\); remove it, or",
        ),
        ("1", ["--invert"], rf"^error: {PLACE}: answers of an interrupted command with another --invert"),
    ],
)
def test_parts_of_another_model_or_of_other_settings_are_refused(interrupted, ask, version, arguments, pattern):
    before = sorted(PLACE.iterdir())
    interrupted.version = version
    refused(ask(*arguments), pattern)
    assert sorted(PLACE.iterdir()) == before


def test_a_directory_of_somebody_else_in_the_place_of_the_parts_is_left_alone(model, ask):
    PLACE.mkdir()
    (PLACE / "mine.txt").write_text("mine")
    refused(ask(), rf"{PLACE}: was not made by `darkroom predict`; remove it, or give another --output")
    assert (PLACE / "mine.txt").read_text() == "mine"


def test_two_commands_do_not_write_the_same_parts(interrupted, ask):
    with (PLACE / parts.LOCK).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(ask(), "another `darkroom predict` with this --output is running")


def test_a_damaged_part_is_named(interrupted, ask):
    part = next(PLACE.glob("*.arrow"))
    part.write_bytes(part.read_bytes()[:100])
    refused_line = ask()[2].splitlines()[-1]
    assert refused_line.startswith(f"error: {part}: damaged (")
    assert not Path("answers.csv").exists()


def test_the_batches_of_a_shard_are_the_same_however_many_work_on_it(model, monkeypatch):
    """The last bits of an answer depend on the pictures beside it."""
    predictor = Predictor(model, CLASSES, (1, 4, 4), "1")
    monkeypatch.setattr(bulk, "BATCH", 3)
    numbers = count()
    given = [[Picture(str(next(numbers)), "", png(9)) for _ in range(size)] for size in (7, 0, 2)]

    def batches(answers):
        return [[picture.file for picture in batch.pictures] for batch in answers]

    alone = [batches(bulk.answer_alone(predictor, shard)) for shard in given]
    assert alone == [[["0", "1", "2"], ["3", "4", "5"], ["6"]], [[]], [["7", "8"]]]
    for start in (1, 1000):
        monkeypatch.setattr(bulk, "PARALLEL_FROM", start)
        together = list(bulk.answer_all(predictor, given))
        assert [batches(batch for shard, batch in together if shard is each) for each in given] == alone


def test_names_that_are_no_text_survive(tmp_path):
    picture = Picture("\udcff/é.png", "é.png")
    batch = bulk.BatchPredictions([picture], np.full((1, 2), np.nan), *np.zeros((3, 1), bool), ["is broken"])
    parts.write(str(tmp_path / "part"), [batch], CLASSES)
    (found,) = parts.read(tmp_path / "part", CLASSES)
    assert (found.pictures, found.errors) == ([picture], ["is broken"])
    assert np.isnan(found.probabilities).all()


@pytest.mark.parametrize("members", [None, np.array([[True, False], [False, False]])])
def test_prediction_sets_survive(tmp_path, members):
    pictures = [Picture("1.png", "1.png"), Picture("2.png", "2.png")]
    batch = bulk.BatchPredictions(pictures, np.full((2, 2), 0.5), *np.zeros((3, 2), bool), [None, None], members)
    empty = bulk.BatchPredictions([], np.zeros((0, 2)), *np.zeros((3, 0), bool), [])
    parts.write(str(tmp_path / "part"), [batch, empty], CLASSES)
    found, nothing = parts.read(tmp_path / "part", CLASSES)
    assert (found.members is None) == (members is None)
    assert members is None or found.members.tolist() == members.tolist()
    assert len(nothing.pictures) == 0


def test_what_a_node_cannot_see_is_refused_and_not_answered_as_broken(model, monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "_fetch", lambda reference: Predictor(model, CLASSES, (1, 4, 4), "1"))
    shard = Files([Picture("none.png", "none.png")])
    with pytest.raises(cluster.DataError, match=r"^none\.png to none\.png: not on the node .* a file system that they"):
        cluster._answer([None], shard, None, tmp_path)


def test_without_ray_the_extra_is_named(model, ask, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    refused(
        ask("--ray-address", "auto"), r"--ray-address: ray is not installed; run `pip install --editable '\.\[ray\]'`"
    )
    assert not PLACE.exists()


@pytest.mark.parametrize(
    ("address", "pattern"),
    [
        ("s3://user:secret@bucket/x", r"s3://…bucket/x: holds a user or a password"),
        ("https://host/a.zip?X-Amz-Signature=secret", r"https://host/a\.zip…: ends with a query"),
        ("ftp://host/a.zip", r"ftp://host/a\.zip: expected s3://, gs:// or https://, got ftp://"),
        (
            "https://host/photos/",
            r"https://host/photos/: a web server has no standard listing of its files; expected an",
        ),
        ("s3://*/a.zip", r"s3://\*/a\.zip: a pattern in the name of the bucket"),
        ("@list.txt", r"list\.txt: line 2: s3://bucket/photos: expected the address of an image or of an archive"),
        ("@secret.txt", r"secret\.txt: line 1: s3://…b/1\.png: holds a user or a password"),
    ],
)
def test_addresses_that_cannot_be_read_are_refused_before_any_work(model, darkroom, address, pattern):
    Path("list.txt").write_text("s3://bucket/1.png\ns3://bucket/photos\n")
    Path("secret.txt").write_text("s3://u:secret@b/1.png\n")
    result = darkroom("predict", address)
    refused(result, pattern)
    assert "secret@" not in result[2]
    assert "=secret" not in result[2]


def test_files_without_a_tag_are_never_taken_for_the_same():
    files = [shards.RemoteFile(f"{number}.png", f"s3://b/{number}.png", 1, "", "") for number in range(2)]
    one, other = (RemoteFiles(files).identity() for _ in range(2))
    assert one != other  # without a tag nobody knows whether they are the same
