"""Fetching published files over HTTP and from directories, with whatever can go wrong on the way."""

import hashlib
import socket
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import pooch
import pytest
from tests.web_server import listening

from darkroom.datasets import fetch as fetching
from darkroom.datasets.fetch import fetch, is_published, local_path
from darkroom.errors import DownloadError

CONTENT = bytes(range(256)) * 40 + b"and a rest"  # several of pooch's chunks, and a part of one
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
NAME = "images.gz"


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Retries without the waiting in between. The list tells how long each would have waited."""
    waits = []
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=waits.append))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return waits


@contextmanager
def serving(*answers):
    """A server on loopback that gives the answers (status, body) in turn, the last one for ever."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answers[min(len(requests), len(answers) - 1)]
            requests.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with listening(Handler) as address:
        yield f"{address}/data", requests


def mirror(path, content=CONTENT):
    path.mkdir(parents=True)
    (path / NAME).write_bytes(content)
    return path


def unused_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def files(directory):
    return {path.name: path.read_bytes() for path in directory.glob("*")}


def test_a_file_is_fetched_over_http(tmp_path):
    with serving((200, CONTENT)) as (address, requests):
        assert fetch(NAME, MD5, [address], tmp_path / "raw") == f"{address}/{NAME}"
    assert requests == [f"/data/{NAME}"]
    assert files(tmp_path / "raw") == {NAME: CONTENT}


def test_progress_goes_up_to_the_size_of_the_file(tmp_path):
    seen = []
    with serving((200, CONTENT)) as (address, _):
        fetch(NAME, MD5, [address], tmp_path, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert len(seen) > 2
    assert seen == sorted(seen)  # and so never beyond the last
    assert {total for _, total in seen} == {len(CONTENT)}


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_file_is_copied_from_a_directory(tmp_path, slash):
    source = mirror(tmp_path / "mirror")
    assert fetch(NAME, MD5, [f"{source}{slash}"], tmp_path / "raw") == f"{source}/{NAME}"
    assert files(tmp_path / "raw") == {NAME: CONTENT}


def test_a_file_is_copied_from_a_file_address(tmp_path):
    source = mirror(tmp_path / "mirror with space")
    fetch(NAME, MD5, [source.as_uri()], tmp_path / "raw")
    assert files(tmp_path / "raw") == {NAME: CONTENT}


def test_a_directory_may_begin_with_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    mirror(tmp_path / "mirror")
    fetch(NAME, MD5, ["~/mirror"], tmp_path / "raw")
    assert files(tmp_path / "raw") == {NAME: CONTENT}


def test_the_next_source_is_tried_after_a_404(tmp_path):
    with serving((404, b"")) as (empty, _), serving((200, CONTENT)) as (full, _):
        assert fetch(NAME, MD5, [empty, full], tmp_path) == f"{full}/{NAME}"
    assert files(tmp_path) == {NAME: CONTENT}


@pytest.mark.parametrize("beginning", ["absent", "a file"])
def test_the_next_source_is_tried_after_a_directory_that_lacks_it(tmp_path, beginning):
    (tmp_path / "a file").write_text("not a directory")
    source = mirror(tmp_path / "mirror")
    assert fetch(NAME, MD5, [str(tmp_path / beginning), str(source)], tmp_path / "raw") == f"{source}/{NAME}"


def test_the_next_source_is_tried_after_a_wrong_checksum(tmp_path):
    wrong, right = mirror(tmp_path / "wrong", b"something else"), mirror(tmp_path / "right")
    assert fetch(NAME, MD5, [str(wrong), str(right)], tmp_path / "raw") == f"{right}/{NAME}"
    assert files(tmp_path / "raw") == {NAME: CONTENT}


def test_the_first_source_that_has_it_is_enough(tmp_path):
    with serving((200, CONTENT)) as (first, _), serving((200, CONTENT)) as (second, requests):
        fetch(NAME, MD5, [first, second], tmp_path)
    assert requests == []


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(tmp_path):
    with (
        serving((200, CONTENT[::-1])) as (address, _),
        pytest.raises(DownloadError, match="wrong checksum: not the published file; removed"),
    ):
        fetch(NAME, MD5, [address], tmp_path / "raw")
    assert files(tmp_path / "raw") == {}


def test_a_wrong_file_in_a_mirror_is_refused_and_nothing_is_kept(tmp_path):
    source = mirror(tmp_path / "mirror", b"something else")
    with pytest.raises(DownloadError, match=f"{source}/{NAME} .wrong checksum"):
        fetch(NAME, MD5, [str(source)], tmp_path / "raw")
    assert files(tmp_path / "raw") == {}
    assert files(source) == {NAME: b"something else"}


@pytest.mark.parametrize("failure", [(503, b""), (200, CONTENT[:100]), (200, CONTENT[::-1])])
def test_a_server_that_fails_once_is_asked_again(tmp_path, patience, failure):
    with serving(failure, (200, CONTENT)) as (address, requests):
        fetch(NAME, MD5, [address], tmp_path)
    assert len(requests) == 2
    assert len(patience) == 1
    assert files(tmp_path) == {NAME: CONTENT}


def test_progress_starts_at_zero_in_each_attempt(tmp_path):
    disturbed, undisturbed = [], []
    with serving((200, CONTENT[:5000]), (200, CONTENT)) as (address, _):
        for directory, seen in (("one", disturbed), ("other", undisturbed)):
            fetch(NAME, MD5, [address], tmp_path / directory, lambda *news, seen=seen: seen.append(news))
    assert len(disturbed) > len(undisturbed)
    assert disturbed[-len(undisturbed) :] == undisturbed


def test_a_server_that_goes_on_failing_is_asked_three_times(tmp_path, patience):
    with (
        serving((500, b"")) as (address, requests),
        pytest.raises(DownloadError, match=rf"{address}/{NAME} \(HTTP 500\)"),
    ):
        fetch(NAME, MD5, [address], tmp_path / "raw")
    assert len(requests) == 3
    assert len(patience) == 2
    assert files(tmp_path / "raw") == {}


def test_a_local_file_is_not_asked_for_again(tmp_path, patience):
    wrong = mirror(tmp_path / "wrong", b"something else")
    with pytest.raises(DownloadError, match=r"no such file or directory.*wrong checksum"):
        fetch(NAME, MD5, [str(tmp_path / "nowhere"), str(wrong)], tmp_path / "raw")
    assert patience == []


def test_a_connection_that_breaks_off_is_refused_and_nothing_is_kept(tmp_path):
    with serving((200, CONTENT[:5000])) as (address, _), pytest.raises(DownloadError, match="connection broken off"):
        fetch(NAME, MD5, [address], tmp_path / "raw")
    assert files(tmp_path / "raw") == {}


def test_an_unreachable_host_is_named_with_the_way_out(tmp_path):
    address = unused_address()
    with pytest.raises(DownloadError, match=rf"{address}/{NAME} \(host unreachable\).*set dataset\.mirror"):
        fetch(NAME, MD5, [address], tmp_path / "raw")
    assert files(tmp_path / "raw") == {}


def test_a_host_that_does_not_answer_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DownloadError, match=rf"{address}/{NAME} \(no answer within 0\.05 s\)"):
            fetch(NAME, MD5, [address], tmp_path / "raw")


def test_every_source_is_named_with_its_own_reason(tmp_path):
    with (
        serving((404, b"")) as (address, _),
        pytest.raises(DownloadError, match=rf"nowhere/{NAME} \(no such file.*{address}/{NAME} \(HTTP 404\)"),
    ):
        fetch(NAME, MD5, [str(tmp_path / "nowhere"), address], tmp_path / "mnist")


def test_the_way_out_says_what_a_mirror_must_hold(tmp_path):
    with pytest.raises(DownloadError, match=f"a directory or URL that holds mnist/{NAME}"):
        fetch(NAME, MD5, [str(tmp_path / "nowhere")], tmp_path / "mnist")


def test_a_directory_is_named_as_it_is(tmp_path):
    with pytest.raises(DownloadError, match=rf"images #1\?/{NAME} \(no such file"):
        fetch(NAME, MD5, [str(tmp_path / "images #1?")], tmp_path / "raw")


@pytest.mark.parametrize("host", ["127.0.0.1:1", "host:port"])
def test_the_password_of_a_mirror_is_not_shown(tmp_path, host):
    with pytest.raises(DownloadError) as raised:
        fetch(NAME, MD5, [f"http://me:hidden@{host}"], tmp_path / "raw")
    assert "hidden" not in str(raised.value)
    assert f"http://…{host}/{NAME} (" in str(raised.value)


@pytest.mark.parametrize("address", ["http://", "http://host:port"])
def test_an_address_that_is_none_is_refused_in_its_own_words(tmp_path, address):
    with pytest.raises(DownloadError, match=r"(?i)invalid url|failed to parse"):
        fetch(NAME, MD5, [address], tmp_path / "raw")


def test_a_correct_file_is_not_fetched_again(tmp_path):
    raw = mirror(tmp_path / "raw")
    before = (raw / NAME).stat().st_mtime_ns
    with serving((200, CONTENT)) as (address, requests):
        assert fetch(NAME, MD5, [address], raw) == str(raw / NAME)
    assert requests == []
    assert (raw / NAME).stat().st_mtime_ns == before


@pytest.mark.parametrize("old", [b"", CONTENT[:-1], b"an older edition"])
def test_a_wrong_file_is_replaced(tmp_path, old):
    raw = mirror(tmp_path / "raw", old)
    with serving((200, CONTENT)) as (address, _):
        fetch(NAME, MD5, [address], raw)
    assert files(raw) == {NAME: CONTENT}


def test_a_wrong_file_does_not_survive_a_failed_download(tmp_path):
    raw = mirror(tmp_path / "raw", b"an older edition")
    with pytest.raises(DownloadError, match="no such file"):
        fetch(NAME, MD5, [str(tmp_path / "nowhere")], raw)
    assert files(raw) == {}


def test_a_full_disk_is_not_blamed_on_the_source(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left") as problem:
        fetch(NAME, MD5, [str(mirror(tmp_path / "mirror"))], tmp_path / "raw")
    assert not isinstance(problem.value, DownloadError)
    assert files(tmp_path / "raw") == {}


def test_a_published_file_is_told_by_its_checksum(tmp_path):
    source = mirror(tmp_path / "mirror")
    assert is_published(source / NAME, MD5)
    assert not is_published(source / NAME, "0" * 32)


@pytest.mark.parametrize(("address", "path"), [("/a/b", "/a/b"), ("a b", "a b"), ("file:///a/b%20c", "/a/b c")])
def test_local_addresses_are_paths(address, path):
    assert str(local_path(address)) == path


@pytest.mark.parametrize("address", ["http://host/a", "https://host/a"])
def test_network_addresses_are_no_paths(address):
    assert local_path(address) is None


def test_nothing_half_written_lies_among_the_files_of_the_dataset(tmp_path, monkeypatch):
    mirror(tmp_path / "mirror")
    target = tmp_path / "raw" / "dataset"
    seen = []

    def copy(source, output):
        Path(output).write_bytes(CONTENT)
        seen.extend(target.iterdir())

    monkeypatch.setattr(fetching.shutil, "copyfile", copy)
    fetch(NAME, MD5, [str(tmp_path / "mirror")], target)

    assert seen == []
    assert list(target.parent.rglob("*")) == [target, target / NAME]
