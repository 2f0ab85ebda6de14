"""What cannot be downloaded is one line, exit code 2, and nothing on the disk."""

import re
from pathlib import Path

import pytest
from tests import s3
from tests.ports import free_port
from tests.unit.datasets.remote.birds import BIRDS
from tests.unit.refusals import refused

from darkroom.commands.doctor import working_tree
from darkroom.config import load
from darkroom.datasets.remote import stores
from darkroom.workspace import Workspace


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("s3://photos/nothing", r"s3://photos/nothing: no files there"),
        ("s3://photos/empty", r"s3://photos/empty: no files there"),
        ("s3://no-such-bucket/birds", r"s3://no-such-bucket/birds: no such bucket"),
        ("s3://no-such-bucket", r"s3://no-such-bucket: no such bucket"),
        ("s3://photos/none.zip", r"s3://photos/none\.zip: not found"),
        ("s3://photos/birds/owl/1.png", r"owl/1\.png: a file; expected a prefix"),
        ("s3://photos/double", r"s3://photos/double//: a folder without a name"),
        ("s3://photos/deep", r"s3://photos/deep/owl//: a folder without a name"),
        ("s3://photos/both", r"1 name of both a file and a folder, such as 'a'"),
        ("s3://photos/outside", r"'a/\.\./b\.png' cannot be the name of a file"),
    ],
)
def test_what_is_no_folder_of_images_is_refused(server, project, darkroom, path, reason):
    server.put({"empty/": b"", "double//a.png": b"1", "both/a": b"1", "both/a/1.png": b"1", "outside/a/../b.png": b"1"})
    server.put({"deep/owl//1.png": b"1"})
    root = project(dataset__name="folder", dataset__path=path)

    refused(darkroom("download"), reason)
    assert not list((root / "data").rglob("*.png"))
    assert not (root / "data" / "raw" / "folder").exists()


@pytest.mark.parametrize(
    ("code", "status", "path", "reason"),
    [
        ("AccessDenied", "403", BIRDS, "no right to read it; check the credentials in the environment"),
        ("AccessDenied", "403", f"{BIRDS}.zip", "no right to read it"),
        ("InvalidAccessKeyId", "403", BIRDS, "the server does not know these credentials"),
        ("ExpiredToken", "400", f"{BIRDS}.zip", "the server does not know these credentials, or they have expired"),
        ("RequestTimeTooSkewed", "403", BIRDS, "the server refuses the clock of this machine.*timedatectl"),
        ("RequestTimeTooSkewed", "403", f"{BIRDS}.zip", "the server refuses the clock of this machine"),
        ("SlowDown", "503", BIRDS, r"the server is overloaded or failing \(SlowDown\)"),
        ("Unheard", "400", BIRDS, r"the server refuses it \(Unheard\)"),
    ],
)
def test_what_the_server_refuses_is_explained(server, project, darkroom, code, status, reason, path):
    secret = s3.ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]
    server.answer = lambda method, path, query: (f"{status} no", s3.error(code, f"not with {secret}"))
    root = project(dataset__name="folder", dataset__path=path)

    result = darkroom("download")

    refused(result, rf"{path}: {reason}")
    assert secret not in result[2]
    assert not (root / "data" / "raw").exists()


def test_a_server_that_is_away_is_named(project, darkroom, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    root = project(dataset__name="folder", dataset__path=BIRDS)
    refused(darkroom("download"), f"{BIRDS}: the server cannot be reached.*AWS_ENDPOINT_URL")
    assert not (root / "data" / "raw").exists()


def test_missing_credentials_are_asked_for(server, project, darkroom, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    project(dataset__name="folder", dataset__path=BIRDS)
    refused(darkroom("download"), f"{BIRDS}: no credentials in the environment; set AWS_PROFILE, or AWS_ACCESS_KEY_ID")


@pytest.mark.parametrize(("scheme", "packages"), [("s3", "s3fs and dvc-s3"), ("gs", "gcsfs and dvc-gs")])
def test_a_missing_extra_is_named(project, darkroom, monkeypatch, scheme, packages):
    monkeypatch.setattr(stores, "find_spec", lambda name: None)
    project(dataset__name="folder", dataset__path=f"{scheme}://photos/birds")
    missing = rf"{scheme}://photos/birds: needs {packages}; run `pip install --editable '\.\[{scheme}\]'`"
    refused(darkroom("download"), missing)
    found = list(working_tree.check(load(Path("params.yaml")), Workspace()))
    assert re.search(f"^dataset.path: {missing}$", found[0].line)
    assert found[0].is_wrong
