"""Optuna Dashboard is opened on the searches' own storage, and says what is missing."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from tests.unit.search.fakes import study_of

from darkroom.commands.dashboard import run
from darkroom.config import Config
from darkroom.errors import SearchError
from darkroom.workspace import Workspace


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """Put a function in the place of Optuna Dashboard's, whether or not that is installed."""

    def put(run_server: Callable[..., None]) -> None:
        package = ModuleType("optuna_dashboard")
        package.run_server = run_server  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "optuna_dashboard", package)

    return put


def test_the_page_is_served_to_this_machine_alone(tmp_path: Path, install: Callable[..., None]) -> None:
    served: dict[str, Any] = {}
    install(lambda storage, **where: served.update(where, studies=storage.get_all_studies()))
    journal = Workspace(tmp_path).study_journal
    journal.parent.mkdir(parents=True)
    study_of([], storage=JournalStorage(JournalFileBackend(str(journal))))

    run(Config(), Workspace(tmp_path), 8123)

    assert [study.study_name for study in served.pop("studies")] == ["small-mlp-0"]
    assert served == {"host": "127.0.0.1", "port": 8123}


def test_without_a_study_there_is_nothing_to_serve(tmp_path: Path, install: Callable[..., None]) -> None:
    install(lambda *arguments, **where: pytest.fail("served"))

    with pytest.raises(SearchError, match="no study yet; `darkroom search` makes one"):
        run(Config(), Workspace(tmp_path), 8080)


def test_a_missing_package_is_named_with_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)

    with pytest.raises(SearchError, match=r"not installed \(.*\); run `pip install --editable '\.\[dashboard\]'`"):
        run(Config(), Workspace(tmp_path), 8080)


def test_a_port_that_is_taken_is_named(tmp_path: Path, install: Callable[..., None]) -> None:
    def taken(*arguments: object, **where: object) -> None:
        raise OSError(98, "Address already in use")

    install(taken)
    journal = Workspace(tmp_path).study_journal
    journal.parent.mkdir(parents=True)
    journal.touch()

    with pytest.raises(SearchError, match=r"^127\.0\.0\.1:8080: address already in use; choose another"):
        run(Config(), Workspace(tmp_path), 8080)
