"""What is tried next: nothing twice, nothing beyond the budget, and two objectives where they are asked for."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from darkroom.config import Config, parse
from darkroom.errors import SearchError, TrainingError
from darkroom.search.attributes import DUPLICATE, FAILURE
from darkroom.search.study import best_trial, interrupted, ranked, used_trials
from darkroom.search.trials import StudyTrials, since_improvement

Settings = Mapping[str, Any]
Search = Callable[..., optuna.Study]
Run = Callable[..., list[FrozenTrial]]
FEW = {"train": {"batch_size": {"choices": [8, 16, 32, 64]}}}
MANY = {"train": {"lr": {"low": 1e-4, "high": 0.1, "log": True}}}
COMPLETE = TrialState.COMPLETE
PRUNED = TrialState.PRUNED
FAIL = TrialState.FAIL


def config(trials: int = 12, *, space: dict[str, Any] = FEW, monitor: str = "accuracy", **search: Any) -> Config:
    tree = {"trials": trials, "space": space, "sampler": "random", **search}
    return parse({"search": tree, "train": {"epochs": 3, "monitor": monitor}}, where="")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "study.journal"


class Objective:
    """Remembers what it was asked to train: 8 fails, 16 falls behind, the others are completed."""

    def __init__(self) -> None:
        self.trained: list[int] = []

    def __call__(self, number: int, settings: Settings) -> Iterator[float]:
        size = settings["train.batch_size"]
        self.trained.append(size)
        if size == 8:
            raise TrainingError(f"no {size}")
        yield from (size + 0.1, size + 0.2, size + 0.3)


def test_a_configuration_that_was_tried_is_not_trained_again(journal: Path, search: Search) -> None:
    objective = Objective()

    trials = used_trials(search(journal, config(30), objective))

    assert sorted(objective.trained) == [8, 16, 32, 64]
    assert len(trials) == 30
    firsts = {trial.params["train.batch_size"]: trial for trial in reversed(trials)}
    for trial in trials:
        first = firsts[trial.params["train.batch_size"]]
        if trial is not first:
            assert trial.user_attrs[DUPLICATE] == first.number
        assert (trial.state, trial.values, trial.intermediate_values, trial.user_attrs.get(FAILURE)) == (
            first.state,
            first.values,
            first.intermediate_values,
            first.user_attrs.get(FAILURE),
        )
    assert {trial.state for trial in trials} == {COMPLETE, FAIL}


def test_a_repeated_configuration_that_was_pruned_is_pruned(journal: Path, search: Search) -> None:
    calls = 0

    def worse_and_worse(number: int, settings: Settings) -> Iterator[float]:
        nonlocal calls
        calls += 1
        yield from (-calls + 0.1, -calls + 0.2, -calls + 0.3)

    space = {"train": {"batch_size": {"choices": [8, 16, 24, 32, 40, 48, 56, 64]}}}
    trials = used_trials(search(journal, config(60, space=space), worse_and_worse))

    pruned = [trial for trial in trials if trial.state is PRUNED]
    assert calls == 8
    assert any(DUPLICATE in trial.user_attrs for trial in pruned)
    for trial in pruned:
        assert trial.values == [list(trial.intermediate_values.values())[-1]]


def test_the_listener_hears_of_every_trial_once(journal: Path, opened: Search, run_trials: Run) -> None:
    study = opened(journal, config(30))

    ended = run_trials(study, config(30), Objective(), slots=2)

    assert sorted(trial.number for trial in ended) == list(range(30))
    assert sum(DUPLICATE in trial.user_attrs for trial in ended) == 26


@pytest.mark.parametrize(("slots", "capacity"), [(1, 8), (3, 1), (2, 3)])
def test_what_is_under_way_is_not_trained_beside_itself(
    journal: Path, search: Search, slots: int, capacity: int
) -> None:
    objective = Objective()

    trials = used_trials(search(journal, config(30, pruner="none"), objective, slots=slots, capacity=capacity))

    assert sorted(objective.trained) == [8, 16, 32, 64]
    assert len(trials) == 30
    for trial in trials:
        assert trial.state is (FAIL if trial.params["train.batch_size"] == 8 else COMPLETE)


def test_a_trial_and_its_twins_survive_the_death_of_their_worker(
    journal: Path, search: Search, worker_died: type[Exception]
) -> None:
    objective, calls = Objective(), 0

    def dying(number: int, settings: Settings) -> Iterator[float]:
        nonlocal calls
        calls += 1
        for epoch, value in enumerate(objective(number, settings)):
            if calls <= 4 and epoch == 1:
                raise worker_died("killed")
            yield value

    study = search(journal, config(20), dying, capacity=4)

    assert len(used_trials(study)) == 20
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    assert len(interrupted(study)) >= 4


@pytest.mark.slow
def test_a_search_of_few_combinations_killed_at_any_point_takes_the_same_course(tmp_path: Path, search: Search) -> None:
    def course(study: optuna.Study) -> list[tuple[Any, ...]]:
        return [(trial.params, trial.values, trial.state) for trial in used_trials(study)]

    whole = course(search(tmp_path / "whole", config(30), Objective()))

    for at in range(1, 30, 3):
        path, seen = tmp_path / f"{at}", 0
        tell = optuna.Study.tell

        def ended(study: optuna.Study, *arguments: Any, **options: Any) -> FrozenTrial:
            nonlocal seen
            seen += 1
            if seen == at:  # noqa: B023
                raise KeyboardInterrupt
            return tell(study, *arguments, **options)  # noqa: B023

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(optuna.Study, "tell", ended)
            with pytest.raises(KeyboardInterrupt):
                search(path, config(30), Objective())
        assert course(search(path, config(30), Objective())) == whole


def test_what_another_search_of_the_study_has_tried_is_not_trained_again(journal: Path, opened: Search) -> None:
    first, second = (StudyTrials(opened(journal, config(trials)), config(trials)) for trials in (20, 30))
    while train(first, 1.0):
        pass

    assert second.ask() is None
    assert [trial.user_attrs[DUPLICATE] < 20 for trial in second.resolved()] == [True] * 10


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def train(source: StudyTrials, value: float) -> FrozenTrial | None:
    trial = source.ask()
    return None if trial is None else source.tell(trial, [value], COMPLETE)


def test_the_time_of_all_sessions_is_counted(journal: Path, opened: Search) -> None:
    settings = config(100, space=MANY, minutes=1.0)

    for _ in range(2):
        clock = Clock()
        source = StudyTrials(opened(journal, settings), settings, clock)
        clock.now = 29
        assert train(source, 1.0)
    clock = Clock()
    source = StudyTrials(opened(journal, settings), settings, clock)
    under_way = source.ask()
    clock.now = 2

    assert source.seconds == 60
    assert source.ask() is None
    assert source.ending == "the time limit was reached (search.minutes: 1)"
    assert under_way is not None
    assert source.tell(under_way, [2.0], COMPLETE).state is COMPLETE


def test_a_search_that_does_not_get_better_ends(journal: Path, opened: Search) -> None:
    settings = config(100, space=MANY, stall=3)
    source = StudyTrials(opened(journal, settings), settings)

    told = [train(source, value) for value in (1.0, 2.0, 1.5, 1.5, 3.0, 3.0, 0.0)]
    assert all(told)
    assert source.ending is None
    assert train(source, 2.5)
    assert train(source, 4.0) is None
    assert source.ending == "no improvement in the last trials (search.stall: 3)"


def test_a_search_whose_trials_all_fail_stalls(journal: Path, opened: Search) -> None:
    settings = config(100, space=MANY, stall=2)
    source = StudyTrials(opened(journal, settings), settings)

    for _ in range(2):
        trial = source.ask()
        assert trial is not None
        source.tell(trial, None, FAIL, "too small")

    assert source.ask() is None


def test_without_another_limit_the_number_of_trials_ends_a_search(journal: Path, opened: Search) -> None:
    settings = config(2, space=MANY)
    source = StudyTrials(opened(journal, settings), settings)

    assert train(source, 1.0)
    assert train(source, 1.0)
    assert train(source, 1.0) is None
    assert source.ending == "all trials have run (search.trials: 2)"


def test_a_grid_ends_with_its_last_point(journal: Path, opened: Search) -> None:
    settings = config(100, sampler="grid")
    source = StudyTrials(opened(journal, settings), settings)

    for _ in range(4):
        assert train(source, 1.0)
    assert train(source, 1.0) is None
    assert source.ending == "every combination was tried"


TWO = {"space": MANY, "second_objective": "parameters", "pruner": "none"}


def sized(number: int, settings: Settings) -> Iterator[float]:
    yield from (number % 5 / 10, number % 5 / 10 + 0.01, number % 5 / 10)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_two_objectives_have_a_front_of_which_the_monitored_figure_chooses(
    journal: Path, search: Search, sampler: str
) -> None:
    def cost(number: int, settings: Settings) -> float:
        return float(100 * (number % 5) + number)

    study = search(journal, config(10, **TWO | {"sampler": sampler}), sized, cost=cost)

    assert [trial.values for trial in used_trials(study)] == [
        [number % 5 / 10 + 0.01, 100 * (number % 5) + number] for number in range(10)
    ]
    assert [trial.number for trial in ranked(study)] == [4, 3, 2, 1, 0]
    assert best_trial(study).number == 4


def test_two_objectives_of_a_loss_are_both_lowered(journal: Path, search: Search) -> None:
    def losses(number: int, settings: Settings) -> Iterator[float]:
        yield from [(0.3, 0.2, 0.2)[number]] * 3

    study = search(journal, config(3, monitor="loss", **TWO), losses, cost=lambda number, settings: 3.0 - number)

    assert best_trial(study).number == 2
    assert [trial.number for trial in ranked(study)] == [2]


def test_two_objectives_without_a_complete_trial_are_refused_with_the_first_reason(
    journal: Path, search: Search
) -> None:
    def failing(number: int, settings: Settings) -> Iterator[float]:
        raise TrainingError(f"reason {number}")

    study = search(journal, config(3, **TWO), failing)

    with pytest.raises(SearchError, match=r"^none of the 3 trials completed; the first failed with: reason 0$"):
        best_trial(study)


def test_an_improvement_of_either_objective_is_one(journal: Path, opened: Search) -> None:
    settings = config(100, **TWO)
    study = opened(journal, settings)
    source = StudyTrials(study, settings)
    waited = []
    for values in ([0.5, 100.0], [0.4, 90.0], [0.5, 95.0], [0.5, 95.0], [0.4, 95.0], [0.6, 1e6]):
        trial = source.ask()
        assert trial is not None
        source.tell(trial, values, COMPLETE)
        waited.append(since_improvement(study))

    assert waited == [0, 0, 0, 1, 2, 0]


def test_a_repeated_configuration_of_two_objectives_has_both(journal: Path, search: Search) -> None:
    objective = Objective()

    trials = used_trials(
        search(journal, config(20, **TWO | {"space": FEW}), objective, cost=lambda number, settings: float(number))
    )

    assert len(objective.trained) == 4
    assert all(len(trial.values) == 2 for trial in trials if trial.state is COMPLETE)


def test_an_interrupted_search_of_two_objectives_takes_the_same_course(tmp_path: Path, search: Search) -> None:
    settings, calls = config(10, **TWO | {"sampler": "tpe"}), 0

    def function(number: int, given: Settings) -> Iterator[float]:
        nonlocal calls
        calls += 1
        if calls in {3, 8}:
            raise KeyboardInterrupt
        yield from [given["train.lr"]] * 3

    def cost(number: int, given: Settings) -> float:
        return float(given["train.lr"])

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "pieces", settings, function, cost=cost)
    pieces = search(tmp_path / "pieces", settings, function, cost=cost)
    whole = search(tmp_path / "whole", settings, function, cost=cost)

    assert [trial.params for trial in used_trials(pieces)] == [trial.params for trial in used_trials(whole)]
