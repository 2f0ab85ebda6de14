"""Preprocessing in a process of its own, on small shards, in which processes are killed on the way."""

import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
from tests import stages

from darkroom.datasets import folder, steps
from darkroom.datasets.journal import Journal

SHARD_IMAGES = 4


def preprocess(root: Path, victim: str = "", after: int = 0) -> None:
    """Preprocess the project in ``root``, and kill "this" process or a "worker" after so many shards of pixels."""
    add, finished = Journal.add, list[int | str]()

    def add_and_kill(journal: Journal, name: int | str, result: Any) -> None:
        add(journal, name, result)
        if journal.path.stem == "pixels":
            finished.append(name)
            if len(finished) == after:
                kill(victim)

    with (
        mock.patch.object(steps, "SHARD_IMAGES", SHARD_IMAGES),
        mock.patch.object(folder, "PARALLEL_FROM", 1),
        mock.patch.object(Journal, "add", add_and_kill),
    ):
        stages.run_stages(root, "preprocess")


def interrupted(root: Path) -> None:
    """Be `darkroom preprocess` in ``root``, which creates a file "ready" after 3 shards and waits to be interrupted."""

    def wait_for_signal(victim: str) -> None:
        (root / "ready").touch()
        signal.pause()

    with mock.patch(f"{__name__}.kill", wait_for_signal), mock.patch("tests.stages.run_stages", _command):
        preprocess(root, "", 3)


def _command(root: Path, stage: str) -> None:
    from darkroom.cli import main as cli

    os.chdir(root)
    sys.argv = ["darkroom", stage]
    cli.main()


def kill(victim: str) -> None:
    if victim == "this":
        os.kill(os.getpid(), signal.SIGKILL)
    workers = [
        child
        for child in psutil.Process().children(recursive=True)
        if any("spawn_main" in part or part.startswith("ray::") for part in child.cmdline())
        and "Agent" not in child.cmdline()[0]
    ]
    workers[-1].kill()


if __name__ == "__main__":
    preprocess(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
