"""What the server keeps for people to label, and that nothing about it fails a request."""

import io
import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.serving.client import TestClient
from tests.serving.fakes import REFERENCE, make_loaded, png
from tests.wait import wait_until

from darkroom.inbox.store import read_inbox
from darkroom.serving.app import make_app
from darkroom.serving.service import Service

DARK, UNDECIDED = png(20), png(128)
# Nothing is unlike the training images.
TOLERANT = replace(REFERENCE, energy_threshold=0.0)


@pytest.fixture
def inbox(tmp_path):
    return tmp_path / "data" / "inbox"


@pytest.fixture
def ask(make_service, inbox):
    """Ask a server with an inbox; gives its client."""

    def make(reference=TOLERANT, **settings):
        service = make_service(make_loaded(reference=reference), inbox=str(inbox), **settings)
        client = TestClient(make_app(service))
        client.service = service
        return client

    return make


def written(client):
    """Wait until the thread that writes has written all."""
    wait_until(lambda: client.service.inbox._waiting == 0, "all is written")


def predict(client, *contents):
    response = client.post("/v1/predict", files=[("images", content) for content in contents])
    assert response.status_code == 200
    return response.json()


def count(client, line):
    found = [each for each in client.get("/metrics").text.splitlines() if each.startswith(line)]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def test_undecided_pictures_are_kept_as_the_model_saw_them_and_decided_ones_are_not(ask, inbox):
    with ask() as client:
        predict(client, DARK, UNDECIDED)
        predict(client, UNDECIDED)
        written(client)
        assert count(client, 'darkroom_inbox_kept_total{reason="undecided"}') == 1
    (kept,), _ = read_inbox(inbox)
    record = kept.record
    assert (record.model, record.version, record.answer, record.reason, record.label) == (
        "shades", "1", "bright", "undecided", None,
    )  # fmt: skip
    assert record.probability == pytest.approx(0.5, abs=0.1)
    assert np.array_equal(np.asarray(Image.open(kept.file)), np.full((4, 4), 128))


def test_pictures_unlike_the_training_images_are_kept(ask, inbox):
    with ask(REFERENCE) as client:
        predict(client, DARK, UNDECIDED)
        written(client)
    assert [each.record.reason for each in read_inbox(inbox)[0]] == ["unlike"]


def test_nothing_of_the_sender_is_kept(ask, inbox):
    exif = Image.Exif()
    exif[0x010F] = "Sender's camera"
    exif.get_ifd(0x8825)[1] = "N"
    stream = io.BytesIO()
    Image.new("L", (9, 9), 128).save(stream, "PNG", exif=exif)
    with ask() as client:
        headers = {"user-agent": "Sender's browser", "x-forwarded-for": "203.0.113.7"}
        files = {"images": ("Sender's name.png", stream.getvalue())}
        assert client.post("/v1/predict", files=files, headers=headers).status_code == 200
        written(client)
    (kept,), _ = read_inbox(inbox)
    content = kept.content()
    assert not [word for word in (b"Sender", b"203.0.113", b"eXIf") if word in content]
    with Image.open(kept.file) as image:
        assert set(image.info) == {"darkroom"}
        assert set(json.loads(image.info["darkroom"])) == {
            "digest", "model", "version", "answer", "probability", "reason", "received", "label", "format_version",
        }  # fmt: skip


def test_what_a_person_says_is_kept_and_not_counted_again(ask, inbox):
    with ask() as client:
        predict(client, DARK)
        response = client.post("/v1/inbox?label=bright", files={"image": DARK})
        assert response.json() == {"kept": True, "detail": None}
        assert client.get("/v1/drift").json()["images"] == 1
        assert count(client, 'darkroom_inbox_kept_total{reason="named"}') == 1
        assert client.get("/v1/model").json()["inbox"] is True
    (kept,), _ = read_inbox(inbox)
    assert (kept.record.answer, kept.record.label, kept.record.reason) == ("dark", "bright", "named")


@pytest.mark.parametrize(
    ("query", "files", "status", "pattern"),
    [
        ("?label=brigth", [("image", DARK)], 422, "unknown class 'brigth'; did you mean 'bright'?"),
        ("", [("image", DARK)], 422, "label: Field required"),
        ("?label=dark&who=me", [("image", DARK)], 422, "who: Extra inputs"),
        ("?label=dark", [("image", DARK), ("image", DARK)], 422, "2 images; send one with its class"),
        ("?label=dark", [("image", b"no picture")], 422, "image 1:"),
    ],
)
def test_what_cannot_be_a_correction_is_refused_in_one_line(ask, inbox, query, files, status, pattern):
    with ask() as client:
        response = client.post(f"/v1/inbox{query}", files=files)
    assert response.status_code == status
    assert pattern in response.json()["detail"]
    assert not inbox.exists()


def test_without_an_inbox_nothing_is_kept_and_a_correction_is_told_so(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    predict(client, UNDECIDED)
    response = client.post("/v1/inbox?label=dark", files={"image": DARK})
    assert response.status_code == 404
    assert response.json()["detail"] == "this server keeps no pictures; serve.inbox is not set"
    assert client.get("/v1/model").json()["inbox"] is False
    assert list(tmp_path.iterdir()) == []


def shades(count):
    """Pictures that are undecided, and differ."""
    found = []
    for number in range(count):
        pixels = np.full((4, 4), 128, np.uint8)
        pixels.ravel()[number] = 129
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        found.append(stream.getvalue())
    return found


def test_a_full_inbox_is_told_once_counted_and_fails_no_request(ask, inbox, caplog):
    first, second, third = shades(3)
    with caplog.at_level(logging.WARNING, "darkroom.serving"), ask(inbox_images=1) as client:
        for content in (first, second, third):
            predict(client, content)
            written(client)
        said = client.post("/v1/inbox?label=dark", files={"image": DARK})
        assert (said.status_code, said.json()) == (200, {"kept": False, "detail": "the inbox is full"})
        assert count(client, 'darkroom_inbox_lost_total{why="full"}') == 3
    assert len(read_inbox(inbox)[0]) == 1
    (line,) = caplog.messages
    assert line == (
        f"serve.inbox {inbox}: full, with 1 image of 1 and 0.0 of 200.0 MB; label some with `darkroom inbox`, or raise "
        "serve.inbox_images or inbox_mb. Pictures are answered, and not kept"
    )


def test_a_disk_that_cannot_be_written_to_is_told_once_and_again_after_it_could(ask, inbox, caplog, monkeypatch):
    first, second, third, fourth = shades(4)
    real = Path.mkdir

    def refuse(path, *arguments, **options):
        raise OSError(30, "Read-only file system", str(path))

    with caplog.at_level(logging.WARNING, "darkroom.serving"), ask() as client:
        for content, mkdir in ((first, refuse), (second, refuse), (third, real), (fourth, refuse)):
            monkeypatch.setattr(Path, "mkdir", mkdir)
            predict(client, content)
            written(client)
        monkeypatch.setattr(Path, "mkdir", real)
        assert count(client, 'darkroom_inbox_lost_total{why="disk"}') == 3
    assert len(read_inbox(inbox)[0]) == 1
    assert (
        caplog.messages
        == [f"serve.inbox {inbox}: cannot be written to (read-only file system). Pictures are answered, and not kept"]
        * 2
    )


def test_where_the_disk_is_slower_than_the_model_pictures_are_counted_and_not_piled_up(ask, inbox, monkeypatch):
    monkeypatch.setattr("darkroom.serving.inbox_writer.MOST_WAITING", 0)
    with ask() as client:
        predict(client, UNDECIDED)
        assert count(client, 'darkroom_inbox_lost_total{why="busy"}') == 1
    assert not inbox.exists()


def test_settings_from_before_the_inbox_serve_without_one():
    from darkroom.config.settings import Serve

    old = Serve.model_validate({"processes": 2})
    assert old.inbox is None
    assert Service(Serve()).inbox is None
