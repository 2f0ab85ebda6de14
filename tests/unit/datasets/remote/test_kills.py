"""The server, or the download, is killed in the middle."""

import itertools
import signal
import socket
import subprocess
import sys
from threading import Event, Thread

import pytest
from tests import s3
from tests.ports import free_port
from tests.unit.datasets.remote.birds import BIRDS, FILES, NAMES, contents
from tests.unit.refusals import refused
from tests.wait import wait_until

from darkroom.datasets.remote import stores


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a server in a process of its own, on one port, that dies at the read of a file of this number."""
    for key, content in FILES.items():
        place = tmp_path / "bucket" / key
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    port, started = free_port(), []
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")

    def run(death):
        arguments = [sys.executable, s3.__file__, str(port), str(tmp_path / "bucket"), str(death)]
        started.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    run.port = port
    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def inodes(root):
    """The images in the directory that is being filled; one that is read again is another file."""
    return {str(path): path.stat().st_ino for path in root.glob("data/raw/remote/*/files/*/*.png")}


def test_a_server_that_is_killed_and_started_again_in_the_middle_is_waited_for(start, project, darkroom, monkeypatch):
    monkeypatch.setattr(stores, "WAITS", (0.1,) * 1000)
    root = project(dataset__name="folder", dataset__path=BIRDS)
    killed = start(10)
    again = Thread(target=lambda: (killed.wait(), start(0)))
    again.start()

    code, _, errors = darkroom("download")

    again.join()
    assert (code, killed.returncode) == (0, -signal.SIGKILL), errors
    assert len(inodes(root)) == len(FILES)
    assert contents(next(root.glob("data/raw/remote/*/files"))) == NAMES


def test_a_server_that_is_killed_costs_only_what_was_not_read(start, project, darkroom, monkeypatch):
    monkeypatch.setattr(stores, "WORKERS", 1)  # of reads at a time none might be answered
    root = project(dataset__name="folder", dataset__path=BIRDS)
    killed = start(10)
    wait_until(lambda: is_open(start.port), "the server listens", killed)

    refused(darkroom("download"), "s3://photos/birds/.*: (the server cannot be reached|connection broken off)")

    assert killed.wait() == -signal.SIGKILL
    assert not (root / "data" / "raw" / "folder").exists()
    before = inodes(root)
    assert 0 < len(before) < 10
    wait_until(lambda: is_open(start.port), "the server listens", start(0))
    assert darkroom("download")[0] == 0
    after = inodes(root)
    assert len(after) == len(FILES)
    assert before.items() <= after.items()


def test_a_download_that_is_killed_is_resumed(server, project, darkroom):
    root = project(dataset__name="folder", dataset__path=BIRDS)
    reads, killed = itertools.count(1), Event()
    server.answer = lambda method, path, query: (
        killed.wait(60) and None if method == "GET" and path.count("/") > 1 and next(reads) > 8 else None
    )
    with subprocess.Popen([sys.executable, "-m", "darkroom", "download"], stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: len(inodes(root)) == 8, "eight files are there", process)
        process.kill()
    killed.set()
    server.answer = lambda method, path, query: None
    before = inodes(root)
    assert not (root / "data" / "raw" / "folder").exists()

    assert darkroom("download")[0] == 0

    after = inodes(root)
    assert len(after) == len(FILES)
    assert before.items() <= after.items()
