"""Processes that begin with torch, MLflow and the stages imported, which takes longer than most of what is tested."""

import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock

import pytest


def context() -> ForkServerContext:
    """What starts such processes, of which any may be killed."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.preloaded"])
    # Their parent finds the tests by PYTHONPATH, and imports torch, which logs as it does for the command.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), TORCH_CPP_LOG_LEVEL="ERROR"):
        multiprocessing.forkserver.ensure_running()
    return found


def fork_workers(patch: pytest.MonkeyPatch) -> None:
    """Let the workers of searches start like this too, where what they train is looked at, and not how they live."""
    patch.setattr("darkroom.search.executors.processes.get_context", lambda method: context())


def start_command(root: Path, said: Path, *arguments: str, **environment: str) -> BaseProcess:
    """Start `darkroom` with ``arguments`` in ``root``, which writes to ``said`` what it says."""
    process = context().Process(target=_be_darkroom, args=(root, said, arguments, environment))
    process.start()
    return process


def _be_darkroom(root: Path, said: Path, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    from darkroom.cli import main as cli

    with said.open("wb") as written:
        for stream in (1, 2):
            os.dup2(written.fileno(), stream)
    os.chdir(root)
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # the fork server's, of the test that started it
    os.environ.update(environment)
    sys.argv = ["darkroom", *arguments]
    cli.main()
