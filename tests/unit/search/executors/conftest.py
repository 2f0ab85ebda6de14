"""A small cache, searches on it, and such searches in processes of their own."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from tests.unit.search.executors.forked import Forked, Forks
from tests.wait import wait_until

from darkroom.config import Config, parse
from darkroom.data.cache import DatasetCard
from darkroom.search.storage import open_storage
from darkroom.search.study import open_study

SPACE = {"train": {"lr": {"low": 1e-3, "high": 0.1, "log": True}}}


def settings(trials: int = 6, epochs: int = 2, **search: Any) -> dict[str, Any]:
    return {
        "model": {"name": "mlp", "hidden": 4},
        "train": {"epochs": epochs, "device": "cpu"},
        "search": {"trials": trials, "pruner": "none", "space": SPACE, **search},
    }


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Config]:
    return lambda *given, **search: parse(settings(*given, **search), where="")


@pytest.fixture
def study_of(tmp_path: Path, small_cache: Path) -> Callable[[Config], optuna.Study]:
    def opened(config: Config) -> optuna.Study:
        return open_study(open_storage(config, tmp_path / "study.journal"), config, DatasetCard.read(small_cache))

    return opened


class Scene:
    """A search in a process of its own."""

    def __init__(self, process: Forked) -> None:
        self.process = process

    def wait_until_it_trains(self) -> list[psutil.Process]:
        """All its descendants, once a trial has had an epoch."""
        assert self.process.stdout.readline() == "epoch\n", self.process.communicate()[1]
        return psutil.Process(self.process.pid).children(recursive=True)

    def result(self) -> dict[str, Any]:
        """What it printed at its end."""
        printed, complaints = self.process.communicate()
        assert self.process.returncode == 0, complaints
        found: dict[str, Any] = json.loads(printed.splitlines()[-1])
        return found | {"complaints": complaints}

    def end(self) -> None:
        if self.process.poll() is None:
            for each in psutil.Process(self.process.pid).children(recursive=True):
                each.kill()
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture
def scene(forks: Forks, small_cache: Path, tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    """Start a search with workers, ``deaths`` of which are killed in the middle of it."""
    started: list[Scene] = []

    def start(workers: int = 2, deaths: int = 0, **given: Any) -> Scene:
        told = json.dumps(settings(workers=workers, **given))
        errors, journal = tmp_path / f"errors {len(started)}", tmp_path / "study.journal"
        started.append(Scene(Forked(forks, errors, small_cache, journal, told, workers, deaths)))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture(scope="session")
def all_end() -> Callable[[list[psutil.Process]], bool]:
    """Whether all of some processes end, given time."""
    return _all_end


def _all_end(processes: list[psutil.Process]) -> bool:
    return wait_until(lambda: not any(map(_lives, processes)), "all processes ended")


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
