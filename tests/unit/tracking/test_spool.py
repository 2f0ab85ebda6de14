"""Spools: what was written is there, in order, whatever became of its process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from darkroom.tracking.spool import Spool

STORE = "http://127.0.0.1:5000"


@pytest.fixture
def spool(tmp_path):
    made = Spool.create(tmp_path / "spools", STORE, "darkroom")
    yield made
    made.close()


def tell(spool, *names):
    for name in names:
        spool.append({"do": name, "run": "1"})


def told(spool):
    return [operation["do"] for operation, _ in spool.pending()]


def left_behind(spool, store=STORE):
    return [(each.experiment, told(each)) for each in Spool.left_behind(spool.path.parent, store)]


def test_operations_are_pending_in_their_order_until_they_are_sent(spool):
    tell(spool, "a", "b", "c")
    assert told(spool) == ["a", "b", "c"]
    spool.mark_sent(spool.pending()[1][1])
    assert told(spool) == ["c"]
    tell(spool, "d")
    assert told(spool) == ["c", "d"]


def test_a_spool_that_is_held_is_not_left_behind(spool):
    tell(spool, "a")
    assert left_behind(spool) == []
    spool.close()
    assert left_behind(spool) == [("darkroom", ["a"])]


def test_a_spool_for_another_store_is_left_alone(spool):
    tell(spool, "a")
    spool.close()
    assert left_behind(spool, "http://127.0.0.1:5001") == []
    assert left_behind(spool) == [("darkroom", ["a"])]


def test_spools_are_found_the_oldest_first(tmp_path):
    for name in ("first", "second", "third"):
        made = Spool.create(tmp_path, STORE, name)
        tell(made, "a")
        made.close()
    assert [each.experiment for each in Spool.left_behind(tmp_path, STORE)] == ["first", "second", "third"]


@pytest.mark.slow
def test_what_a_killed_process_has_written_is_left_behind(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path; from darkroom.tracking.spool import Spool; "
        f"spool = Spool.create(Path(sys.argv[1]), {STORE!r}, 'darkroom'); "
        "spool.append({'do': 'a', 'run': '1'}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=os.environ)
    assert ended.returncode == -signal.SIGKILL
    assert [told(each) for each in Spool.left_behind(tmp_path, STORE)] == [["a"]]


def test_a_torn_last_line_is_not_sent(spool):
    tell(spool, "a")
    with spool.path.open("ab") as opened:
        opened.write(b'{"do": "b", "ru')
    assert told(spool) == ["a"]


@pytest.mark.parametrize("content", [b"", b'{"store": "ht', b"\xff\xfe\n"])
def test_a_spool_that_is_torn_in_its_first_line_is_passed_over(spool, content):
    (spool.path.parent / "0.jsonl").write_bytes(content)
    tell(spool, "a")
    spool.close()
    assert left_behind(spool) == [("darkroom", ["a"])]


def test_a_torn_record_of_what_was_sent_means_that_all_is_sent_again(spool):
    tell(spool, "a", "b")
    spool.mark_sent(spool.pending()[0][1])
    spool.path.with_suffix(".sent").write_text("")
    assert told(spool) == ["a", "b"]


def test_files_are_kept_as_they_were_when_they_were_told(spool, tmp_path):
    report = tmp_path / "report"
    report.mkdir()
    (report / "metrics.json").write_text("1")
    spool.append({"do": "files", "run": "1", "directory": str(report), "name": "train"})
    (report / "metrics.json").write_text("2")
    spool.append({"do": "files", "run": "1", "directory": str(report), "name": "train"})
    copies = [operation["directory"] for operation, _ in spool.pending()]
    assert [json.loads(Path(copy, "metrics.json").read_text()) for copy in copies] == [1, 2]


def test_the_files_of_a_spool_that_was_moved_with_its_project_are_found(spool, tmp_path):
    report = tmp_path / "report"
    report.mkdir()
    (report / "metrics.json").write_text("1")
    spool.append({"do": "files", "run": "1", "directory": str(report), "name": "train"})
    spool.close()
    moved = spool.path.parent.rename(tmp_path / "moved")
    (found,) = Spool.left_behind(moved, STORE)
    ((operation, _),) = found.pending()
    assert Path(operation["directory"], "metrics.json").read_text() == "1"


def test_a_removed_spool_leaves_nothing(spool, tmp_path):
    report = tmp_path / "report"
    report.mkdir()
    spool.append({"do": "files", "run": "1", "directory": str(report), "name": "train"})
    spool.mark_sent(spool.pending()[0][1])
    spool.remove()
    assert list(spool.path.parent.iterdir()) == []


def test_a_spool_that_is_set_aside_is_kept_and_never_sent(spool):
    tell(spool, "a")
    aside = spool.set_aside()
    assert json.loads(aside.read_text().splitlines()[1])["do"] == "a"
    assert left_behind(spool) == []
