"""Searches whose trials are trained by a function: the scheduler is the real one, no network is trained."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial

from darkroom.config import Config
from darkroom.data import cache
from darkroom.data.cache import DatasetCard
from darkroom.search.scheduler import TrialScheduler
from darkroom.search.storage import open_storage
from darkroom.search.study import Start, open_study
from darkroom.search.trials import StudyTrials, Trials
from darkroom.search.worker import FAILURES, TrialProgress, WorkerCommand, WorkerResult
from darkroom.training.loop import EpochMetrics
from darkroom.utils.memory import failure_reason

Settings = Mapping[str, Any]
CARD = DatasetCard("small", ("a", "b"), (1, 8, 8), (0.2,), (0.3,), {"train": 60}, {}, fingerprint="0" * 64)
# Gives the monitored figure of each epoch of a trial, by its number and its settings.
Objective = Callable[[int, Settings], Iterator[float]]
# Gives the second objective of a trial that was trained to its end.
Cost = Callable[[int, Settings], float]


class WorkerDiedError(Exception):
    """Raised by an objective: the worker is gone, and with it everything it was training."""


class FakeSlot:
    """A worker that asks ``objective`` instead of training."""

    lost = (WorkerDiedError,)

    def __init__(self, objective: Objective, capacity: int, cost: Cost | None) -> None:
        self.objective = objective
        self.capacity = capacity
        self.cost = cost
        self.under_way: dict[int, tuple[Iterator[tuple[int, float]], Settings]] = {}

    def submit(self, orders: WorkerCommand) -> Future[WorkerResult]:
        future: Future[WorkerResult] = Future()
        try:
            future.set_result(self._advance(orders))
        except WorkerDiedError as death:
            future.set_exception(death)
        return future

    def restart(self) -> None:
        self.under_way = {}

    def _advance(self, orders: WorkerCommand) -> WorkerResult:
        report = WorkerResult()
        for number in orders.give_up:
            del self.under_way[number]
        for assignment in orders.begin:
            try:
                figures = enumerate(self.objective(assignment.number, assignment.settings), 1)
            except FAILURES as problem:
                report.failures[assignment.number] = failure_reason(problem)
                continue
            self.under_way[assignment.number] = (figures, assignment.settings)
        for number, (figures, settings) in list(self.under_way.items()):
            try:
                epoch, figure = next(figures)
            except FAILURES as problem:
                report.failures[number] = failure_reason(problem)
                del self.under_way[number]
                continue
            metrics = EpochMetrics(epoch, figure, figure, figure, figure, lr=0.1, seconds=0.0)
            is_finished = epoch == settings["train.epochs"]
            cost = self.cost(number, settings) if self.cost and is_finished else None
            report.progress[number] = TrialProgress(metrics, is_finished, cost)
            if is_finished:
                del self.under_way[number]
        return report


class Silent:
    """A listener that remembers the trials that ended, and is otherwise not interested."""

    def __init__(self) -> None:
        self.seen: list[FrozenTrial] = []

    def trial_started(self, trial: optuna.Trial, settings: Settings) -> None: ...

    def epoch_ended(self, trial: optuna.Trial, metrics: EpochMetrics) -> None: ...

    def trial_ended(self, trial: FrozenTrial) -> None:
        self.seen.append(trial)


def _run_trials(
    study: optuna.Study,
    config: Config,
    objective: Objective,
    *,
    cost: Cost | None = None,
    slots: int = 1,
    capacity: int = 1,
    source: Trials | None = None,
) -> list[FrozenTrial]:
    listener = Silent()
    places = [FakeSlot(objective, capacity, cost) for _ in range(slots)]
    TrialScheduler(source or StudyTrials(study, config), config, places, listener, config.train.epochs).run()
    return listener.seen


@pytest.fixture(scope="session")
def small_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images of 4 by 4 in two classes, preprocessed."""
    directory = tmp_path_factory.mktemp("processed") / "small"
    directory.mkdir()
    labels = np.arange(60) % 2
    images = np.random.default_rng(0).integers(0, 100, (60, 1, 4, 4), dtype=np.uint8)
    images[labels == 1] += 100
    rows = {"train": np.arange(40), "val": np.arange(40, 50), "test": np.arange(50, 60)}
    cache.write(directory, images, labels, rows, name="small", classes=["a", "b"], names=[], settings={})
    return directory


@pytest.fixture(scope="session")
def run_trials() -> Callable[..., list[FrozenTrial]]:
    """Run the trials of a study, each trained by the objective; gives those that ended, in order."""
    return _run_trials


def _opened(path: Path, config: Config, *, start: Start = "matching", fingerprint: str = "0" * 64) -> optuna.Study:
    return open_study(open_storage(Config(), path), config, replace(CARD, fingerprint=fingerprint), start)


@pytest.fixture(scope="session")
def opened() -> Callable[..., optuna.Study]:
    """Open the study of a journal file as a search does."""
    return _opened


@pytest.fixture(scope="session")
def search() -> Callable[..., optuna.Study]:
    """Open the study of a journal file as a search does, and run its trials."""

    def search(path: Path, config: Config, objective: Objective, **options: Any) -> optuna.Study:
        study = _opened(path, config)
        _run_trials(study, config, objective, **options)
        return study

    return search


@pytest.fixture(scope="session")
def worker_died() -> type[Exception]:
    """What an objective raises to take its worker with it."""
    return WorkerDiedError
