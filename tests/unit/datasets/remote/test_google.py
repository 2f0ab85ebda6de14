"""Images in Google's object store."""

import json
import socket
from collections.abc import Iterator
from urllib.parse import quote

import fsspec.config
import pytest
import requests
from tests.unit.datasets.remote.birds import FILES, NAMES

from darkroom.datasets.remote import stores
from darkroom.errors import DownloadError

pytest.importorskip("gcsfs")
emulator = pytest.importorskip("gcp_storage_emulator.server")
BIRDS = "gs://photos/birds"


class Bucket:
    """The bucket "photos" of a server on loopback."""

    def __init__(self, address: str) -> None:
        self.address = address

    def put(self, files: dict[str, bytes]) -> None:
        for key, content in files.items():
            self._ask("POST", f"upload/storage/v1/b/photos/o?uploadType=media&name={quote(key, safe='')}", content)

    def clear(self) -> None:
        for each in json.loads(self._ask("GET", "storage/v1/b/photos/o")).get("items", []):
            self.remove(each["name"])

    def remove(self, key: str) -> None:
        self._ask("DELETE", f"storage/v1/b/photos/o/{quote(key, safe='')}")

    def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        answer = requests.request(method, f"{self.address}/{path}", data=body, timeout=10)
        answer.raise_for_status()
        return answer.content


@pytest.fixture(scope="module")
def emulated() -> Iterator[Bucket]:
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="photos")
    server.start()
    yield Bucket(f"http://127.0.0.1:{server._api._httpd.server_port}")
    server.stop()


@pytest.fixture
def bucket(emulated: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The bucket with FILES."""
    emulated.clear()
    emulated.put(FILES)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulated.address)
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})  # as FSSPEC_GS_TOKEN=anon does
    monkeypatch.setattr(stores, "find_spec", lambda name: name)  # DVC's part is not needed here
    return emulated


def test_a_prefix_becomes_a_directory(bucket, fetched, caplog):
    _, files, said = fetched(BIRDS)

    assert files == NAMES
    assert said == f"{BIRDS}: 16 files: 16 new"
    assert caplog.text == ""


def test_only_what_has_changed_is_read_again(bucket, fetched):
    fetched(BIRDS)
    bucket.remove("birds/owl/0.png")
    bucket.put({"birds/wren/1.png": b"other bytes", "birds/wren/new.png": b"new"})

    _, files, said = fetched(BIRDS)

    expected = {**NAMES, "wren/1.png": b"other bytes", "wren/new.png": b"new"}
    del expected["owl/0.png"]
    assert files == expected
    assert said == (
        f"{BIRDS}: 16 files: 1 new, 1 changed (such as wren/1.png), 1 gone (such as owl/0.png), 14 as before"
    )


def test_an_archive_is_one_file(bucket, fetched):
    bucket.put({"birds.zip": b"PK of an archive"})
    assert fetched("gs://photos/birds.zip")[1] == b"PK of an archive"


@pytest.mark.parametrize("address", ["gs://photos/nothing", "gs://elsewhere/birds"])
def test_where_nothing_is_one_line_says_so(bucket, fetched, address):
    with pytest.raises(DownloadError, match=rf"^{address}: no files there; set dataset\.path to a bucket or a prefix"):
        fetched(address)


def test_a_server_that_is_away_is_one_line(bucket, fetched, monkeypatch, caplog):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{unused.getsockname()[1]}")

    with pytest.raises(DownloadError, match=rf"^{BIRDS}: the server cannot be reached; check the network$"):
        fetched(BIRDS)

    assert caplog.text == ""
