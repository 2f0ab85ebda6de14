"""With every sampler and every pruner a search takes the course that its seed decides, interrupted or not."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.trial import TrialState

from darkroom.config import Config, parse
from darkroom.errors import TrainingError
from darkroom.search.attributes import DUPLICATE
from darkroom.search.samplers import choose_sampler, grid
from darkroom.search.space import distributions
from darkroom.search.study import interrupted, used_trials

# After ten trials at random the samplers suggest. Gaussian processes take a hundred times as long for it as the others.
TRIALS = {"tpe": 16, "gp": 12, "random": 16, "cma-es": 16, "grid": 16}
Settings = Mapping[str, Any]
Search = Callable[..., optuna.Study]
RANGES = {
    "train": {"lr": {"low": 1e-4, "high": 0.1, "log": True}, "batch_size": {"low": 8, "high": 64}},
    "augment": {"translate": {"low": 0, "high": 2}},
}
WITH_CHOICES = {**RANGES, "model": {"hidden": {"choices": [[8], [16, 8], [128]]}}}
GRID = {
    "train": {"lr": {"low": 0.001, "high": 0.004, "step": 0.001}, "batch_size": {"choices": [64, 8]}},
    "augment": {"translate": {"low": 0, "high": 1}},
}
SPACES = {"tpe": WITH_CHOICES, "gp": WITH_CHOICES, "random": WITH_CHOICES, "cma-es": RANGES, "grid": GRID}
GP = pytest.param("gp", marks=pytest.mark.slow)
SAMPLERS = [GP, *(name for name in SPACES if name != "gp")]
PRUNERS = ["median", "hyperband", "successive-halving", "wilcoxon", "none"]


@pytest.fixture(scope="module")
def whole_course(tmp_path_factory: pytest.TempPathFactory, search: Search) -> Callable[[str], list[tuple[Any, ...]]]:
    """The course of a search with a sampler that nobody interrupts: one for all tests that interrupt it."""

    @functools.cache
    def searched(sampler: str) -> list[tuple[Any, ...]]:
        return course(search(tmp_path_factory.mktemp("whole") / "journal", config(sampler), objective))

    return searched


def config(sampler: str = "tpe", pruner: str = "median", seed: int = 0, **search: Any) -> Config:
    chosen = {"sampler": sampler, "pruner": pruner, "trials": TRIALS[sampler], "seed": seed, "space": SPACES[sampler]}
    return parse({"search": chosen | search, "train": {"epochs": 9}}, where="")


def objective(number: int, settings: Settings) -> Iterator[float]:
    """A smooth function of the settings that grows with the epochs; a few configurations cannot be trained."""
    if 30 <= settings["train.batch_size"] <= 34:
        raise TrainingError("between the two")
    quality = 5 - abs(math.log10(settings["train.lr"]) + 2) - abs(settings["train.batch_size"] - 20) / 50
    yield from (quality * (1 - math.exp(-epoch / 3)) for epoch in range(1, 10))


def course(study: optuna.Study) -> list[tuple[Any, ...]]:
    """What became of each trial that counts, and the place of the one whose outcome it was given."""
    trials = used_trials(study)
    places = {trial.number: place for place, trial in enumerate(trials)}
    return [
        (each.params, each.values, each.state, each.intermediate_values, places.get(each.user_attrs.get(DUPLICATE)))
        for each in trials
    ]


def interrupted_at(*calls: int) -> Callable[[int, Settings], Iterator[float]]:
    """The objective, but the process is ended in those of its epochs, counted over all trials."""
    count = 0

    def function(number: int, settings: Settings) -> Iterator[float]:
        nonlocal count
        for value in objective(number, settings):
            count += 1
            if count in calls:
                raise KeyboardInterrupt
            yield value

    return function


def searched_in_pieces(search: Search, path: Path, settings: Config, *calls: int) -> list[tuple[Any, ...]]:
    for call in calls:
        with contextlib.suppress(KeyboardInterrupt):
            search(path, settings, interrupted_at(call))
    study = search(path, settings, objective)
    assert len(interrupted(study)) >= 3
    return course(study)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_interrupted_search_takes_the_same_course_with_every_sampler(
    tmp_path: Path, search: Search, sampler: str, whole_course: Callable[[str], list[tuple[Any, ...]]]
) -> None:
    whole = whole_course(sampler)

    assert len(whole) == TRIALS[sampler]
    assert searched_in_pieces(search, tmp_path / "pieces", config(sampler), 3, 12, 20, 11, 9) == whole


@pytest.mark.parametrize("sampler", ["tpe", "cma-es"])
@pytest.mark.parametrize("pruner", PRUNERS)
def test_an_interrupted_search_takes_the_same_course_with_every_pruner(
    tmp_path: Path, search: Search, pruner: str, sampler: str
) -> None:
    settings = config(sampler, pruner, seed=1, trials=24)
    whole = course(search(tmp_path / "whole", settings, objective))

    states = {state for _, _, state, _, _ in whole}
    assert (TrialState.PRUNED in states) == (pruner != "none")
    assert searched_in_pieces(search, tmp_path / "pieces", settings, 5, 7, 9, 6, 8, 9, 4) == whole


@pytest.mark.parametrize("pruner", PRUNERS)
def test_a_search_in_two_halves_takes_the_same_course_with_every_pruner(
    tmp_path: Path, search: Search, pruner: str
) -> None:
    whole = course(search(tmp_path / "whole", config(pruner=pruner, trials=24), objective))

    search(tmp_path / "halves", config(pruner=pruner, trials=12), objective)

    assert course(search(tmp_path / "halves", config(pruner=pruner, trials=24), objective)) == whole


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_end_while_anything_is_written_leaves_the_same_course(
    tmp_path: Path,
    search: Search,
    sampler: str,
    whole_course: Callable[[str], list[tuple[Any, ...]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings, whole = config(sampler), whole_course(sampler)
    write = JournalStorage._write_log

    for at in (4, 9, 14, 23, 28, 37, 41):
        left = at

        def ended(*arguments: Any) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            write(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(JournalStorage, "_write_log", ended)
            with pytest.raises(KeyboardInterrupt):
                search(tmp_path / "pieces", settings, objective)

    assert course(search(tmp_path / "pieces", settings, objective)) == whole


@pytest.mark.slow
def test_a_gaussian_process_does_not_suggest_what_was_pruned_again_and_again(tmp_path: Path, search: Search) -> None:
    trials = used_trials(search(tmp_path / "journal", config("gp", trials=15), objective))

    assert any(trial.state is TrialState.PRUNED for trial in trials)
    assert not any(DUPLICATE in trial.user_attrs for trial in trials)


@pytest.mark.parametrize(
    ("sampler", "trials", "most"), [("tpe", 24, 11), pytest.param("gp", 18, 3, marks=pytest.mark.slow)]
)
def test_a_sampler_learns_from_failures(tmp_path: Path, search: Search, sampler: str, trials: int, most: int) -> None:
    def diverging(number: int, settings: Settings) -> Iterator[float]:
        if settings["train.lr"] > 0.02:
            raise TrainingError("the loss is no longer finite")
        yield from (5 + math.log10(settings["train.lr"]) - 1 / epoch for epoch in range(1, 10))

    ended = used_trials(search(tmp_path / "journal", config(sampler, "none", trials=trials), diverging))

    failed = sum(trial.state is TrialState.FAIL for trial in ended)
    assert 0 < failed <= most
    assert max(trial.params["train.lr"] for trial in ended if trial.state is TrialState.COMPLETE) > 0.015


# The first suggestion follows ten trials at random, of which three have failed; with two objectives it takes seconds.
@pytest.mark.parametrize(("sampler", "trials"), [("tpe", 16), pytest.param("gp", 11, marks=pytest.mark.slow)])
def test_a_sampler_of_two_objectives_bears_failures(tmp_path: Path, search: Search, sampler: str, trials: int) -> None:
    def failing_at_times(number: int, given: Settings) -> Iterator[float]:
        if number % 4 == 1:
            raise TrainingError("at times")
        yield from objective(number, {**given, "train.batch_size": 20})

    settings = config(sampler, "none", second_objective="parameters", trials=trials)

    study = search(tmp_path / "journal", settings, failing_at_times, cost=lambda number, given: given["train.lr"])

    assert {trial.state for trial in used_trials(study)} == {TrialState.COMPLETE, TrialState.FAIL}


@pytest.mark.parametrize("sampler", ["tpe", "cma-es"])
def test_a_sampler_learns_from_the_trials(tmp_path: Path, search: Search, sampler: str) -> None:
    study = search(tmp_path / "journal", config(sampler, "none", trials=30), objective)
    values = [trial.value or 0.0 for trial in used_trials(study)]

    assert sum(values[-10:]) > sum(values[1:11])


def test_a_grid_tries_every_combination_once_from_the_settings_as_written_on(tmp_path: Path, search: Search) -> None:
    trials = used_trials(search(tmp_path / "journal", config("grid", trials=100), objective))

    assert trials[0].params == {"train.lr": 0.001, "train.batch_size": 64, "augment.translate": 0}
    assert sorted(tuple(trial.params.values()) for trial in trials) == sorted(
        (lr, size, shift) for lr in (0.001, 0.002, 0.003, 0.004) for size in (8, 64) for shift in (0, 1)
    )


def test_a_grid_that_does_not_hold_the_settings_as_written_begins_elsewhere(tmp_path: Path, search: Search) -> None:
    space = {"train": {"lr": {"low": 0.002, "high": 0.004, "step": 0.001}, "batch_size": {"choices": [64, 8]}}}

    trials = used_trials(search(tmp_path / "journal", config("grid", space=space), objective))

    assert len({frozenset(trial.params.items()) for trial in trials}) == len(trials) == 6


def test_the_points_of_a_grid_are_what_a_person_would_write() -> None:
    space = {
        "model": {"dropout": {"low": 0, "high": 0.5, "step": 0.1}},
        "augment": {"translate": {"low": 1, "high": 3}},
    }

    points = list(grid(distributions(config("grid", space=space, trials=0).search.space.flat()), seed=0))

    assert {point["model.dropout"] for point in points} == {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}
    assert {point["augment.translate"] for point in points} == {1, 2, 3}
    assert len(points) == 18


def test_the_seed_decides_the_order_of_a_grid() -> None:
    kinds = distributions(config("grid").search.space.flat())
    first, again, other = (list(grid(kinds, seed)) for seed in (0, 0, 1))

    assert first == again != other


def test_a_sampler_that_repeats_itself_gives_its_turn_to_chance() -> None:
    assert isinstance(choose_sampler(config(), 9, [], stuck=True), optuna.samplers.RandomSampler)
    assert isinstance(choose_sampler(config(), 9, []), optuna.samplers.TPESampler)


@pytest.mark.parametrize("kinds", [RANGES, WITH_CHOICES])
def test_the_space_is_the_one_that_optuna_infers(kinds):
    settings = config(space=kinds)
    space = distributions(settings.search.space.flat())
    study = optuna.create_study()
    for value in range(8):
        study.tell(study.ask(space), *([None, TrialState.FAIL] if value == 3 else [value]))
    trial = study.ask()
    sampler = choose_sampler(settings, 9, [])
    inferred = optuna.samplers.TPESampler.infer_relative_search_space(sampler, study, trial)
    assert list(sampler.infer_relative_search_space(study, trial).items()) == list(inferred.items())
