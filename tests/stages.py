"""The pipeline's stages in this process, as `dvc repro` runs them in five, which need seconds to start."""

import contextlib
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from unittest import mock

STAGES = ("download", "preprocess", "search", "train", "evaluate")


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
