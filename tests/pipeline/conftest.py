"""One real `dvc repro` in a temporary clone, looked at by many tests."""

from collections.abc import Callable

import pytest
from tests.clone import Clone, copy_project


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The project as git would clone it, committed, with nothing run yet."""
    return copy_project(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="session")
def make_clone() -> Callable[..., Clone]:
    return copy_project


@pytest.fixture(scope="session")
def reproduced(clone: Clone) -> Clone:
    """The clone after `dvc repro` on the default settings."""
    clone.run("dvc", "repro")
    return clone
