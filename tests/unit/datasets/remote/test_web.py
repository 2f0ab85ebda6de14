"""An archive, or a table of addresses, on a web server."""

import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from tests.unit.refusals import refused
from tests.web_server import listening

from darkroom.datasets.remote import transfer
from darkroom.errors import DownloadError

CONTENT = bytes(range(256)) * 40
SIGNATURE = "X-Amz-Signature=0123abcd"


class Web:
    """Serves ``files`` by their paths. Reads end in the middle while ``breaks`` is above 0."""

    def __init__(self, *, takes_ranges):
        self.files, self.tag, self.breaks, self.ranges = {"/birds.zip": CONTENT}, '"1"', 0, []
        self.takes_ranges = takes_ranges

    def answer(self, request, *, has_body):
        if request.path.startswith("/signed"):
            request.send_response(302)
            request.send_header("Location", f"/refused?{SIGNATURE}")
            request.end_headers()
            return
        content = self.files.get(request.path)
        if content is None:
            request.send_error(403 if request.path.startswith("/refused") else 404)
            return
        start, asked = 0, re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if has_body:
            self.ranges.append(request.headers.get("Range"))
        if asked and self.takes_ranges:
            start = int(asked[1])
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(content) - start))
        if self.tag:
            request.send_header("ETag", self.tag)
        request.end_headers()
        if has_body:
            stop = len(content)
            if self.breaks:
                self.breaks -= 1
                stop = start + (stop - start) // 2
            request.wfile.write(content[start:stop])


@contextmanager
def serving(web):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            web.answer(self, has_body=True)

        def do_HEAD(self):
            web.answer(self, has_body=False)

        def log_message(self, *args):
            pass

    with listening(Handler) as address:
        yield address


@pytest.fixture(params=[1 << 20, 1000], ids=["at once", "in parts"])
def part_bytes(request, monkeypatch):
    monkeypatch.setattr(transfer, "PART_BYTES", request.param)


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_an_archive_is_read_though_the_connection_breaks(part_bytes, fetched, takes_ranges):
    web = Web(takes_ranges=takes_ranges)
    web.breaks = 2
    with serving(web) as address:
        assert fetched(f"{address}/birds.zip")[1] == CONTENT
    assert len(web.ranges) == 3


def test_what_was_read_of_a_large_archive_is_not_read_again(fetched, monkeypatch):
    monkeypatch.setattr(transfer, "PART_BYTES", 1000)
    web = Web(takes_ranges=True)
    web.breaks = 1
    web.files["/birds.zip"] = CONTENT * 400  # more than the network and the libraries hold
    with serving(web) as address:
        assert fetched(f"{address}/birds.zip")[1] == CONTENT * 400
    first, second = web.ranges
    assert first is None
    assert re.fullmatch(r"bytes=[1-9]\d+-", second)


def test_an_archive_is_read_again_only_if_the_server_says_that_it_changed(fetched):
    web = Web(takes_ranges=True)
    with serving(web) as address:
        fetched(f"{address}/birds.zip")
        assert fetched(f"{address}/birds.zip")[2].endswith("1 file: 1 as before")
        assert len(web.ranges) == 1
        web.files["/birds.zip"], web.tag = CONTENT[::-1], '"2"'
        assert fetched(f"{address}/birds.zip")[1] == CONTENT[::-1]


def test_what_has_no_checksum_is_read_each_time(fetched):
    web = Web(takes_ranges=True)
    web.tag = None
    with serving(web) as address:
        fetched(f"{address}/birds.zip")
        web.files["/birds.zip"] = CONTENT[::-1]
        assert fetched(f"{address}/birds.zip")[1] == CONTENT[::-1]


def test_a_table_names_images_beside_it_and_elsewhere(fetched):
    web = Web(takes_ranges=True)
    with serving(web) as address:
        table = f"file,label\nimages/1.png,a\n{address}/other/2.png,b\n".encode()
        web.files |= {"/sets/labels.csv": table, "/sets/images/1.png": b"one", "/other/2.png": b"two"}
        _, files, _ = fetched(f"{address}/sets/labels.csv")
    host = address.removeprefix("http://")
    assert files == {"labels.csv": table, "images/1.png": b"one", f"{host}/other/2.png": b"two"}


def test_a_missing_file_is_named(fetched):
    with serving(Web(takes_ranges=True)) as address, pytest.raises(DownloadError, match=r"/none\.zip: not found"):
        fetched(f"{address}/none.zip")


def test_the_signature_of_another_server_is_not_shown(project, darkroom):
    with serving(Web(takes_ranges=True)) as address:
        root = project(dataset__name="folder", dataset__path=f"{address}/signed.zip")
        code, output, errors = result = darkroom("--debug", "download")
        assert SIGNATURE not in output + errors
        assert code == 2
        refused(darkroom("download"), rf"{address}/signed\.zip: no right to read it")
    assert result
    assert not (root / "data" / "raw").exists()


def test_a_listing_of_a_web_server_is_refused(project, darkroom):
    project(dataset__name="folder", dataset__path="https://127.0.0.1/birds/")
    refused(darkroom("download"), r"https://127\.0\.0\.1/birds: a web server has no standard listing")
