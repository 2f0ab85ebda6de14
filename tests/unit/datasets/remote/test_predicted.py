"""`darkroom predict` of pictures in a bucket, which are read and not kept."""

import csv
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from tests.serving.fakes import CLASSES, png
from tests.unit.refusals import refused

from darkroom.commands import predict
from darkroom.prediction import shards
from darkroom.prediction.predictor import Predictor

SHADES = {
    f"test/{label}/{number}.png": png(shade + number)
    for label, shade in (("dark", 0), ("bright", 200))
    for number in range(4)
}


IN_SHARDS = [
    ("a-0.tar" if label == "bright" else "a-1.zip", f"test/{label}/{number}.png")
    for label in ("bright", "dark")
    for number in range(4)
]


def brightness(images):
    light = images.float().mean((1, 2, 3)) / 255
    return torch.stack([1 - light, light], 1) * 10


def tar_of(files):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, picture in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(picture)
            archive.addfile(member, io.BytesIO(picture))
    return content.getvalue()


def zip_of(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, picture in files.items():
            archive.writestr(name, picture)
    return content.getvalue()


@pytest.fixture
def bucket(server, project, monkeypatch):
    """Pictures below a prefix, and the same in shards, for a champion that tells dark from bright."""
    project()
    names = sorted(SHADES)
    halves = [{name: SHADES[name] for name in half} for half in (names[:4], names[4:])]
    server.put(
        SHADES | {"test/notes.txt": b"text", "shards/a-0.tar": tar_of(halves[0]), "shards/a-1.zip": zip_of(halves[1])}
    )
    monkeypatch.setattr(shards, "SHARD", 3)
    predictor = Predictor(brightness, CLASSES, (1, 4, 4), "1")
    monkeypatch.setattr(predict, "_champion", lambda config, workspace: predictor)
    return server


def answers():
    with Path("answers.csv").open(newline="") as opened:
        return {row["file"]: row["label"] or row["error"] for row in csv.DictReader(opened)}


def label_of(name):
    return name.split("/")[-2]


@pytest.mark.parametrize(
    ("address", "files"),
    [
        ("s3://photos/test", [f"s3://photos/{name}" for name in sorted(SHADES)]),
        ("s3://photos/test/*/[0-2].png", [f"s3://photos/{name}" for name in sorted(SHADES) if "/3" not in name]),
        ("s3://photos/test/dark/1.png", ["s3://photos/test/dark/1.png"]),
        ("s3://photos/shards/a-*", [f"s3://photos/shards/{archive}/{name}" for archive, name in IN_SHARDS]),
    ],
)
def test_what_an_address_names_is_answered_in_its_order_and_not_kept(bucket, darkroom, tmp_path, address, files):
    before = set(tmp_path.rglob("*"))

    code, output, errors = darkroom("predict", address, "--output", "answers.csv")

    assert code == 0, errors
    assert list(answers()) == files
    assert all(label == label_of(name) for name, label in answers().items())
    if len(files) > 1:
        assert f"{len(files)} of {len(files)} are the class that their folder is named as" in output
    assert ("skipped 1 file without an image: s3://photos/test/notes.txt" in errors) == (address == "s3://photos/test")
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "answers.csv"}


def test_a_list_may_hold_addresses_beside_paths(bucket, darkroom):
    Path("here.png").write_bytes(png(255))
    lines = ["s3://photos/test/dark/3.png", "s3://photos/shards/a-1.zip", "here.png", "s3://photos/test/dark/3.png"]
    Path("list.txt").write_text("\n".join(lines))
    assert darkroom("predict", "@list.txt", "--output", "answers.csv")[0] == 0
    assert list(answers()) == [lines[0], *(f"{lines[1]}/{name}" for name in sorted(SHADES)[4:]), lines[2]]
    assert Path("answers.csv").read_text().count("dark/3.png,dark") == 3


def test_a_picture_that_is_gone_since_it_was_listed_is_told_of(bucket, darkroom, monkeypatch):
    bucket.answer = lambda method, path, query: (
        ("404 no", b"<Error><Code>NoSuchKey</Code></Error>")
        if method == "GET" and path.endswith("dark/1.png")
        else None
    )
    code, _, errors = darkroom("predict", "s3://photos/test", "--output", "answers.csv")
    assert code == 0
    assert "1 of 8 images have no answer: s3://photos/test/dark/1.png: cannot be read (no such file" in errors
    assert answers()["s3://photos/test/dark/1.png"].startswith("cannot be read")


@pytest.mark.parametrize(
    ("address", "pattern"),
    [
        ("s3://photos/none", "s3://photos/none: no files there"),
        (
            "s3://photos/shards",
            r"s3://photos/shards: no images found there; `s3://photos/shards/\*` names the 2 archives",
        ),
        ("s3://photos/*.gif", r"s3://photos/\*\.gif: no image and no archive matches this pattern"),
        ("s3://photos/none.png", r"s3://photos/none\.png: not found; check the address"),
        ("s3://photos/none.tar", r"s3://photos/none\.tar: not found; check the address"),
        ("s3://photos/broken.zip", r"s3://photos/broken\.zip: damaged or unsupported archive"),
        ("s3://photos/text.tar", r"s3://photos/text\.tar: neither a directory nor a readable zip or tar archive"),
        ("s3://photos/forbidden.png", r"s3://photos/forbidden\.png: no right to read it"),
    ],
)
def test_what_cannot_be_answered_is_refused(bucket, darkroom, address, pattern):
    broken = zip_of(SHADES)
    bucket.put({"broken.zip": broken[:60] + b"\xff" * 40 + broken[100:], "text.tar": b"text", "forbidden.png": png(0)})
    bucket.answer = lambda method, path, query: (
        ("403 no", b"<Error><Code>AccessDenied</Code></Error>") if path.endswith("forbidden.png") else None
    )
    refused(darkroom("predict", address, "--output", "answers.csv"), pattern)
    assert not Path("answers.csv").exists()
    assert not Path("answers.csv.parts").exists()
