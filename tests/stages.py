"""The pipeline's stages and other commands in this process: one of their own would need seconds to start."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple
from unittest import mock

STAGES = ("download", "preprocess", "search", "train", "evaluate", "register")


@contextlib.contextmanager
def inside(root: Path, **environment: str) -> Iterator[None]:
    """Work in the project in ``root``. Its store is its own, unless ``environment`` names another."""
    with contextlib.chdir(root), mock.patch.dict(os.environ):
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow sets it to the store of the last test
        os.environ.update(environment)
        yield


def run_stages(root: Path, *names: str, **environment: str) -> None:
    """Run the stages ``names``, or all of them, in the project in ``root``."""
    from darkroom.config import load
    from darkroom.workspace import Workspace

    with inside(root, **environment):
        for name in names or STAGES:
            import_module(f"darkroom.stages.{name}").run(load(root / "params.yaml"), Workspace())


class Ended(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    output: str
    errors: str


def run_command(root: Path, *arguments: str, **environment: str) -> Ended:
    """Run `darkroom` with ``arguments`` in the project in ``root``, as a person types it there."""
    from darkroom.cli import main as cli

    output, errors, code = io.StringIO(), io.StringIO(), 0
    with (
        inside(root, **environment),
        mock.patch.object(sys, "argv", ["darkroom", *arguments]),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Ended(code, output.getvalue(), errors.getvalue())
