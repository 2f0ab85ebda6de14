"""Trials share a slot where they can be trained together, and a place that is free is taken."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from darkroom.config import Config, parse
from darkroom.search.fused.loop import group
from darkroom.search.study import used_trials
from darkroom.search.worker import WorkerResult

Settings = Mapping[str, Any]
EPOCHS = 4


def config(trials: int, space: dict[str, Any], **search: Any) -> Config:
    tree = {
        "train": {"epochs": EPOCHS},
        "search": {"trials": trials, "sampler": "random", "pruner": "none", "space": space, **search},
    }
    return parse(tree, where="")


VALUES = {"train": {"lr": {"low": 1e-4, "high": 0.1}}, "model": {"dropout": {"low": 0.0, "high": 0.5}}}
SHAPES = {**VALUES, "train": {**VALUES["train"], "batch_size": {"choices": [16, 32, 64]}}}


class Recorder:
    """An objective that keeps which trials were trained in the same epoch, one round of all slots after another."""

    def __init__(self) -> None:
        self.under_way: dict[int, Settings] = {}
        self.together: list[dict[int, Settings]] = []

    def __call__(self, number: int, settings: Settings) -> Iterator[float]:
        self.under_way[number] = settings
        for epoch in range(EPOCHS):
            self.together.append(dict(self.under_way))
            if epoch == EPOCHS - 1:
                del self.under_way[number]
            yield number / 1000


@pytest.fixture
def run(tmp_path: Path, opened: Callable[..., optuna.Study], run_trials: Callable[..., Any]) -> Callable[..., Any]:
    def run(settings: Config, **places: int) -> tuple[optuna.Study, Recorder]:
        recorder = Recorder()
        study = opened(tmp_path / "study.journal", settings)
        run_trials(study, settings, recorder, **places)
        return study, recorder

    return run


def test_a_slot_is_filled_with_trials_that_differ_in_values(run: Callable[..., Any]) -> None:
    study, recorder = run(config(8, VALUES), capacity=4)

    assert {len(trials) for trials in recorder.together} == {1, 2, 3, 4}  # as they are begun one after another
    assert len(used_trials(study)) == 8


def test_trials_that_differ_in_shape_are_not_trained_together(run: Callable[..., Any]) -> None:
    settings = config(12, SHAPES)
    study, recorder = run(settings, capacity=4)

    assert max(len(trials) for trials in recorder.together) > 1
    for trials in recorder.together:
        assert len({group(settings.with_settings(each)) for each in trials.values()}) == 1
    assert [trial.state for trial in used_trials(study)] == [TrialState.COMPLETE] * 12


def test_every_trial_is_trained_once_whatever_the_slots(run: Callable[..., Any]) -> None:
    study, recorder = run(config(11, SHAPES), slots=3, capacity=2)

    assert len(used_trials(study)) == len(study.trials) == 11
    assert {number for trials in recorder.together for number in trials} == set(range(11))
    assert not recorder.under_way


def test_a_pruned_trial_leaves_its_place_to_the_next_while_the_others_go_on(
    tmp_path: Path, opened: Callable[..., optuna.Study], run_trials: Callable[..., Any]
) -> None:
    settings = config(10, VALUES, pruner="median")
    study = opened(tmp_path / "study.journal", settings)
    courses: dict[int, list[set[int]]] = {}
    under_way: set[int] = set()

    def objective(number: int, settings: Settings) -> Iterator[float]:
        under_way.add(number)
        for _ in range(EPOCHS):
            courses.setdefault(number, []).append(set(under_way))
            yield 0.1 if number in (6, 7) else 0.9 + number / 1000

    run_trials(study, settings, objective, capacity=2)

    states = {trial.number: trial.state for trial in study.trials}
    assert {number for number, state in states.items() if state is TrialState.PRUNED} == {6, 7}
    assert all(len(courses[number]) == EPOCHS for number in states if number not in (6, 7))
    assert len(courses[6]) < EPOCHS


def test_what_workers_had_to_do_without_is_said_once(
    tmp_path: Path,
    opened: Callable[..., optuna.Study],
    run_trials: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    init = WorkerResult.__init__
    monkeypatch.setattr(WorkerResult, "__init__", lambda result: init(result, notes={"steps are slower"}))
    settings = config(4, VALUES)

    run_trials(opened(tmp_path / "study.journal", settings), settings, Recorder(), slots=2)

    assert capsys.readouterr().err == "warning: search: steps are slower\n"
