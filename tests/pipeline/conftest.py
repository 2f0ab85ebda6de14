"""One real `dvc repro` in a temporary clone, looked at by many tests."""

from collections.abc import Callable

import pytest
from tests.clone import Clone, copy_project


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The project as git would clone it, committed, with nothing run yet, and with a search half as long."""
    search = {"search__trials": 6, "search__finalists": 1, "search__repeats": 2}
    return copy_project(tmp_path_factory.mktemp("clone"), **search)


@pytest.fixture(scope="session")
def make_clone() -> Callable[..., Clone]:
    return copy_project


@pytest.fixture(scope="session")
def reproduced(clone: Clone) -> Clone:
    """The clone after `dvc repro`."""
    clone.run("dvc", "repro")
    return clone
