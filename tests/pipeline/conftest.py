"""One real `dvc repro` in a temporary clone, looked at by many tests, and clones in which less has to be done."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.clone import Clone, copy_project


@pytest.fixture(scope="session")
def make_clone(empty_store: Path) -> Callable[..., Clone]:
    """Make a fresh clone in a directory, with settings as given, and with an MLflow store that has no runs yet."""

    def make(place: Path, **changes: object) -> Clone:
        clone = copy_project(place, **changes)
        shutil.copyfile(empty_store, clone.root / "mlflow.db")
        return clone

    return make


@pytest.fixture(scope="session")
def reproduced(make_clone: Callable[..., Clone], tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with fewer trials and half the epochs, after `dvc repro`."""
    search = {"search__trials": 6, "search__epochs": 5, "search__finalists": 1, "search__repeats": 2}
    clone = make_clone(tmp_path_factory.mktemp("clone"), train__epochs=10, **search)
    clone.run("dvc", "repro")
    return clone
