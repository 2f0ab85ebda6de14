"""What a killed process leaves behind goes with the next run, and nothing else does."""

import os
import socket
from pathlib import Path

import pytest

from darkroom.utils.files import atomic_directory, atomic_file
from darkroom.utils.process_id import this_process
from darkroom.utils.scratch import scratch_directory, scratch_file

SOURCE = Path(__file__).parents[3] / "src" / "darkroom"
# torchvision's inside a scratch directory; and Ray's, whose sockets allow no longer name.
# The file of serving/disagreements.py has no name.
TEMPORARY = {"utils/scratch.py", "datasets/published.py", "utils/ray_cluster.py", "serving/disagreements.py"}


@pytest.fixture
def leave(tmp_path):
    """Leave a directory with a file behind, as a process does that was killed."""

    def make(process):
        left = tmp_path / f".darkroom.{process.replace(':', '~')}.abc123_4.partial"
        left.mkdir()
        (left / "images.bin").write_bytes(b"many")
        return left

    return make


def ended():
    """The name of a process that had the number of this one before it."""
    host, number, start = this_process().rsplit(":", 2)
    return f"{host}:{number}:{int(start) - 1}"


@pytest.fixture(params=["file", "directory", "atomic file", "atomic directory"])
def work(request, tmp_path):
    """Work in a scratch place in the temporary directory."""
    return {
        "file": lambda: scratch_file(tmp_path),
        "directory": lambda: scratch_directory(tmp_path),
        "atomic file": lambda: atomic_file(tmp_path / "file.txt"),
        "atomic directory": lambda: atomic_directory(tmp_path / "directory"),
    }[request.param]


def test_what_a_killed_process_has_left_is_removed_by_the_next_that_works_there(leave, work, tmp_path):
    left = leave(ended())
    file = tmp_path / f".darkroom.{socket.gethostname()}~1~1.abc123_4.partial"
    file.write_bytes(b"half")

    with work():
        assert not left.exists()
        assert not file.exists()


@pytest.mark.parametrize(
    "process",
    [this_process(), "elsewhere:1:1", "nobody", f"{socket.gethostname()}:x:1"],
    ids=["a living one", "another machine's", "nobody's", "no number"],
)
def test_what_belongs_to_others_or_to_nobody_known_stays(leave, work, process):
    left = leave(process)

    with work():
        pass

    assert (left / "images.bin").read_bytes() == b"many"


def test_what_is_not_named_as_scratch_stays(work, tmp_path):
    others = [".darkroom.txt", f"x{leave_name()}", f"{leave_name()}x", f".train.pt{leave_name()}"]
    for name in others:
        (tmp_path / name).write_text("mine")

    with work():
        pass

    assert {path.name for path in tmp_path.iterdir()} >= set(others)


def leave_name():
    return f".darkroom.{ended().replace(':', '~')}.abc.partial"


def test_what_another_user_has_left_stays(leave, work, monkeypatch):
    left = leave(ended())
    monkeypatch.setattr(os, "geteuid", lambda: left.stat().st_uid + 1)

    with work():
        pass

    assert left.exists()


def test_a_link_is_removed_and_not_what_it_leads_to(work, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "image.png").write_bytes(b"mine")
    link = tmp_path / leave_name()
    link.symlink_to(kept, target_is_directory=True)

    with work():
        assert not link.is_symlink()

    assert (kept / "image.png").exists()


def test_two_that_work_in_one_place_do_not_disturb_each_other(work):
    with work() as first, work() as second:
        assert first != second
        assert first.exists()
        assert second.exists()


def test_a_directory_is_made_where_the_system_wants_temporary_ones(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with scratch_directory() as place:
        assert place.parent == tmp_path

    assert list(tmp_path.iterdir()) == []


def test_nothing_temporary_is_made_without_the_name_of_its_process():
    found = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if "tempfile." in path.read_text()}

    assert found == TEMPORARY
