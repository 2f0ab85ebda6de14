"""Images in an object store become a directory: in parallel, resumed, and only what has changed."""

import hashlib
import itertools
from pathlib import Path

import pytest
from tests import s3
from tests.unit.datasets.remote.birds import BIRDS, FILES, NAMES

from darkroom.datasets.remote import stores, transfer
from darkroom.errors import DownloadError


def test_a_prefix_becomes_a_directory(server, fetched):
    local, files, said = fetched()

    assert files == NAMES
    assert local.labels is None
    assert said == f"{BIRDS}: 16 files: 16 new"
    assert sorted(server.reads) == sorted(FILES)


def test_a_whole_bucket_and_a_trailing_slash_are_prefixes(server, fetched):
    assert fetched("s3://photos")[1] == FILES
    assert fetched(f"{BIRDS}/")[1] == NAMES


def test_a_prefix_is_a_folder_and_not_the_beginning_of_a_name(server, fetched):
    server.put({"birds2/owl/1.png": b"another"})
    assert fetched()[1] == NAMES


def test_many_nested_folders_are_listed_whole(server, fetched):
    files = {f"deep/{a}/{b}/{c}.png": f"{a}{b}{c}".encode() for a in range(3) for b in range(8) for c in range(2)}
    server.put(files | {"deep/a.png": b"beside the folders", "deep/0/b.png": b"and below"})

    assert {f"deep/{name}" for name in fetched("s3://photos/deep")[1]} == {*files, "deep/a.png", "deep/0/b.png"}


def test_what_is_there_is_not_read_again(server, fetched):
    fetched()
    server.reads.clear()

    _, files, said = fetched()

    assert server.reads == []
    assert files == NAMES
    assert said.endswith("16 files: 16 as before")


def test_what_has_changed_is_noticed(server, fetched):
    fetched()
    server.reads.clear()
    client = server.client
    client.delete_object(Bucket="photos", Key="birds/owl/0.png")
    server.put({"birds/wren/1.png": b"other bytes", "birds/wren/new.png": b"new"})

    _, files, said = fetched()

    assert sorted(server.reads) == ["birds/wren/1.png", "birds/wren/new.png"]
    wanted = {**NAMES, "wren/1.png": b"other bytes", "wren/new.png": b"new"}
    del wanted["owl/0.png"]
    assert files == wanted
    assert said.endswith("16 files: 1 new, 1 changed (such as wren/1.png), 1 gone (such as owl/0.png), 14 as before")


def test_a_change_that_leaves_the_size_is_noticed(server, fetched):
    server.put({"birds/owl/0.png": b"aaaa"})
    fetched()
    server.put({"birds/owl/0.png": b"bbbb"})

    assert fetched()[1]["owl/0.png"] == b"bbbb"


def test_a_class_that_is_gone_leaves_no_empty_folder(server, fetched):
    fetched()
    for key in FILES:
        if key.startswith("birds/owl/"):
            server.client.delete_object(Bucket="photos", Key=key)

    local, _, _ = fetched()

    assert [path.name for path in Path(local.path).iterdir()] == ["wren"]


def test_a_file_may_become_a_folder_and_a_folder_a_file(server, fetched):
    server.put({"swap/a": b"file", "swap/b/1.png": b"in a folder"})
    fetched("s3://photos/swap")
    for key in ("swap/a", "swap/b/1.png"):
        server.client.delete_object(Bucket="photos", Key=key)
    server.put({"swap/a/1.png": b"in a folder", "swap/b": b"file"})

    assert fetched("s3://photos/swap")[1] == {"a/1.png": b"in a folder", "b": b"file"}


def test_a_local_file_that_was_cut_or_lost_is_read_again(server, fetched):
    local, _, _ = fetched()
    (Path(local.path) / "owl" / "1.png").write_bytes(b"")
    (Path(local.path) / "owl" / "2.png").unlink()
    server.reads.clear()

    assert fetched()[1] == NAMES
    assert sorted(server.reads) == ["birds/owl/1.png", "birds/owl/2.png"]


def test_marks_of_folders_are_no_files(server, fetched):
    server.put({"birds/": b"", "birds/owl/": b""})
    assert fetched()[1] == NAMES


def test_names_may_hold_what_addresses_may_not(server, fetched):
    files = {f"odd/{name}": name.encode() for name in ("a b/ü.png", "a b/#1%20.png", "[x]/*.png", "+&=/1.png")}
    server.put(files)
    assert {f"odd/{name}": content for name, content in fetched("s3://photos/odd")[1].items()} == files


def test_a_download_that_failed_goes_on_where_it_stopped(server, fetched):
    refusing = {"birds/wren/7.png"}
    server.answer = lambda method, path, query: ("500 no", s3.error("InternalError")) if path[8:] in refusing else None
    with pytest.raises(DownloadError, match=r"s3://photos/birds/wren/7\.png: the server is overloaded"):
        fetched()
    done = set(server.reads) - refusing
    assert done
    refusing.clear()
    server.reads.clear()

    assert fetched()[1] == NAMES
    assert done.isdisjoint(server.reads)
    assert len(server.reads) + len(done) == len(FILES)


@pytest.mark.parametrize("status", ["500 no", "429 no"])
def test_an_overloaded_server_is_tried_again(server, fetched, status):
    seen = set()

    def answer(method, path, query):
        """Fails at each request the first time."""
        is_first = (method, path, query) not in seen
        seen.add((method, path, query))
        return (status, s3.error("Unheard")) if is_first else None

    server.answer = answer
    assert fetched()[1] == NAMES
    assert len(seen) > len(NAMES)


def test_a_server_that_stops_and_starts_again_in_the_middle_is_waited_for(server, fetched, monkeypatch):
    monkeypatch.setattr(stores, "WAITS", (0.05,) * 100)
    reads = itertools.count(1)
    stopped = []

    def answer(method, path, query):
        if path.count("/") > 1 and next(reads) == 8:
            stopped.append(path)
            server._server.shutdown()
            server._server.server_close()
            server.start()
        return

    server.answer = answer
    assert fetched()[1] == NAMES
    assert len(stopped) == 1


def test_a_large_file_is_read_in_parts_and_resumed(server, fetched, monkeypatch):
    monkeypatch.setattr(transfer, "PART_BYTES", 1000)
    content = bytes(range(256)) * 100
    server.put({"large/archive.zip": content})
    reads = itertools.count(1)
    server.answer = lambda method, path, query: (
        ("403 no", s3.error("AccessDenied")) if method == "GET" and next(reads) > 20 else None
    )
    with pytest.raises(DownloadError, match="no right to read it"):
        fetched("s3://photos/large/archive.zip")
    first = len(server.reads)
    server.answer = lambda method, path, query: None
    server.reads.clear()

    assert fetched("s3://photos/large/archive.zip")[1] == content
    assert first > 20 > 0 < len(server.reads) < 26


def test_a_large_file_that_changes_between_its_parts_is_refused(server, fetched, monkeypatch, tmp_path):
    monkeypatch.setattr(transfer, "PART_BYTES", 1000)
    server.put({"large.zip": b"a" * 5000})
    reads = itertools.count(1)

    def answer(method, path, query):
        if method == "GET" and next(reads) == 3:
            server.put({"large.zip": b"b" * 5000})
        return

    server.answer = answer
    with pytest.raises(DownloadError, match=r"s3://photos/large\.zip: changed while it was downloaded"):
        fetched("s3://photos/large.zip")
    assert not list(tmp_path.rglob("large.zip"))
    assert fetched("s3://photos/large.zip")[1] == b"b" * 5000


def test_a_small_file_that_changes_after_the_listing_is_refused(server, fetched):
    def answer(method, path, query):
        if path.endswith("owl/3.png") and method == "GET":
            server.client.put_object(Bucket="photos", Key="birds/owl/3.png", Body=b"changed")
        return

    server.answer = answer
    with pytest.raises(DownloadError, match=r"birds/owl/3\.png: changed while"):
        fetched()


def test_bytes_that_are_not_those_of_the_checksum_are_refused(server, fetched, tmp_path):
    content = FILES["birds/owl/3.png"]
    damaged = (bytes([number]) + content[1:] for number in itertools.count())
    server.answer = lambda method, path, query: (
        ("200 OK", next(damaged)) if method == "GET" and path.endswith("owl/3.png") else None
    )
    with pytest.raises(DownloadError, match=r"birds/owl/3\.png: arrives damaged"):
        fetched()
    assert not list(tmp_path.rglob("3.png")) or [path.parent.name for path in tmp_path.rglob("3.png")] == ["wren"]


def test_bytes_that_were_damaged_on_the_way_once_are_read_again(server, fetched):
    damaged = iter([b"x" * len(FILES["birds/owl/3.png"])])

    def answer(method, path, query):
        wrong = next(damaged, None) if method == "GET" and path.endswith("owl/3.png") else None
        return wrong and ("200 OK", wrong)

    server.answer = answer
    assert fetched()[1] == NAMES


def test_an_etag_that_is_no_md5_is_taken_once_the_bytes_come_twice(server, fetched):
    content = b"as a bucket with a key of its own answers"
    server.put({"birds/owl/0.png": b"x" * len(content)})
    server.answer = lambda method, path, query: (
        ("200 OK", content) if method == "GET" and path.endswith("owl/0.png") else None
    )
    assert fetched()[1]["owl/0.png"] == content
    assert server.reads.count("birds/owl/0.png") == 2


def test_the_checksums_are_kept(server, fetched, tmp_path):
    fetched()
    (kept,) = tmp_path.glob("*/objects.csv")
    rows = [line.split(",") for line in kept.read_text().splitlines()]
    assert rows[0] == ["file", "bytes", "tag", "md5"]
    assert {row[0]: row[3] for row in rows[1:]} == {
        name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in NAMES.items()
    }


def test_a_half_written_line_of_the_journal_is_no_file(server, fetched, tmp_path):
    fetched()
    (kept,) = tmp_path.glob("*/objects.csv")
    whole = kept.read_text()
    kept.write_text(whole[:-60])
    server.reads.clear()

    assert fetched()[1] == NAMES
    assert len(server.reads) in (1, 2)
    assert sorted(kept.read_text().splitlines()) == sorted(whole.splitlines())
