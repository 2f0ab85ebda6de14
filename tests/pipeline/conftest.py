"""One real `dvc repro` in a temporary clone, looked at by many tests, and clones in which less has to be done."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.clone import Clone, copy_project


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The project as git would clone it, committed, with nothing run yet, and with fewer trials and half the epochs."""
    search = {"search__trials": 6, "search__epochs": 5, "search__finalists": 1, "search__repeats": 2}
    return copy_project(tmp_path_factory.mktemp("clone"), train__epochs=10, **search)


@pytest.fixture(scope="session")
def make_clone(empty_store: Path) -> Callable[..., Clone]:
    """Make a fresh clone in a directory, with settings as given, and with an MLflow store that has no runs yet."""

    def make(place: Path, **changes: object) -> Clone:
        clone = copy_project(place, **changes)
        shutil.copyfile(empty_store, clone.root / "mlflow.db")
        return clone

    return make


@pytest.fixture(scope="session")
def reproduced(clone: Clone) -> Clone:
    """The clone after `dvc repro`."""
    clone.run("dvc", "repro")
    return clone
