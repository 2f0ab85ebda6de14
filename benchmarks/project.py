"""A project in the working directory, and the commands that a person types there."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from benchmarks.images import CLASSES
from benchmarks.machine import ROOT
from numpy.typing import NDArray
from ruamel.yaml import YAML


def write_params(changes: Mapping[str, Any], source: Path = ROOT / "params.yaml") -> None:
    yaml = YAML()
    settings = yaml.load(source)
    for key, value in changes.items():
        section, _, setting = key.partition(".")
        settings[section][setting] = value
    yaml.dump(settings, Path("params.yaml"))


def prepare(images: NDArray[np.uint8], labels: NDArray[np.int64], validation: int) -> None:
    """Leave what a training finds: the cache, with the first images for validation, and a search that was skipped."""
    from darkroom.utils.files import write_json
    from darkroom.workspace import Workspace

    workspace, rows = Workspace(), np.arange(len(images))
    splits = {"train": rows[validation:], "val": rows[:validation], "test": rows[:2]}
    write_cache("fashion-mnist", images, labels, splits)
    workspace.report("preprocess").mkdir(parents=True)
    workspace.best_params.parent.mkdir(parents=True)
    write_json(workspace.best_params, {"params": {}, "trials": 0})


def write_cache(
    name: str, images: NDArray[np.uint8], labels: NDArray[np.int64], splits: Mapping[str, NDArray[np.int64]]
) -> None:
    """Leave what `darkroom preprocess` caches of a dataset: ``splits`` are rows of ``images`` [N, C, H, W]."""
    from darkroom.data import cache
    from darkroom.workspace import Workspace

    directory = Workspace().processed(name)
    directory.mkdir(parents=True)
    cache.write(
        directory,
        images,
        labels,
        dict(splits),
        name=name,
        classes=[str(number) for number in range(CLASSES)],
        names=[],
        settings={"dataset": {"name": name}, "preprocess": {}},
    )


def make_store() -> None:
    """Make the project's MLflow store, as its first command does."""
    from darkroom.config.settings import Tracking
    from darkroom.tracking.tracker import connect
    from darkroom.workspace import Workspace

    with patch.dict(os.environ):
        connect(Tracking(), Workspace().spools)


def darkroom(*arguments: str) -> None:
    """Run a command in this process: all that a person pays for is in it, the start of Python excepted."""
    from darkroom.cli.main import main

    # MLflow leaves its store's address in the environment, where the next command would find it.
    with patch.dict(os.environ), patch.object(sys, "argv", ["darkroom", *arguments]):
        try:
            main()
        except SystemExit as ended:
            if ended.code:
                raise RuntimeError(f"darkroom {' '.join(arguments)} ended with {ended.code}") from None


@contextmanager
def timed(owner: Any, name: str) -> Iterator[list[float]]:
    """Collects the seconds of each call of the function ``name`` of a module or class."""
    seconds: list[float] = []
    function = getattr(owner, name)

    def wrapped(*given: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*given, **named)
        finally:
            seconds.append(time.perf_counter() - start)

    with patch.object(owner, name, wrapped):
        yield seconds
