"""A study is the same whether it was interrupted or not, and every trial's state is true."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState
from tests.unit.search.fakes import study_of, trial

from darkroom.config import Config, parse
from darkroom.errors import ConfigError, ModelError, SearchError, TrackingError, TrainingError
from darkroom.search.attributes import FAILURE
from darkroom.search.study import best_trial, used_trials

TRIALS = 10  # some drawn at random, some by TPE
Settings = dict[str, Any]
Objective = Callable[[int, Settings], Iterator[float]]
Search = Callable[..., optuna.Study]
SPACE = {
    "train": {"lr": {"low": 1e-4, "high": 0.1, "log": True}, "batch_size": {"low": 8, "high": 64}},
    "model": {"hidden": {"choices": [[8], [16, 8], [128]]}},
}


def config(trials: int = TRIALS, *, space: dict[str, Any] = SPACE, monitor: str = "accuracy", **search: Any) -> Config:
    tree = {"search": {"trials": trials, "space": space, **search}, "train": {"epochs": 3, "monitor": monitor}}
    return parse(tree, where="")


def objective(number: int, settings: Settings) -> Iterator[float]:
    """A smooth function of the settings, whose trials end in every state."""
    if settings["train.batch_size"] > 58:
        raise TrainingError("too many\nto train")
    value = -abs(math.log10(settings["train.lr"]) + 2) + len(settings["model.hidden"])
    yield from (value * epoch for epoch in (1, 2, 3))


def constant(number: int, settings: Settings) -> Iterator[float]:
    yield from (1.0, 1.0, 1.0)


def course(study: optuna.Study) -> list[tuple[Any, ...]]:
    return [(trial.params, trial.value, trial.state) for trial in used_trials(study)]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "study.journal"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, search: Search) -> list[tuple[Any, ...]]:
    return course(search(tmp_path_factory.mktemp("study") / "journal", config(), objective))


def test_as_many_trials_count_as_were_asked_for(
    journal: Path, run_trials: Callable[..., list[FrozenTrial]], opened: Search
) -> None:
    study = opened(journal, config())

    seen = run_trials(study, config(), objective)

    assert [trial.number for trial in seen] == list(range(TRIALS))
    assert len(used_trials(study)) == len(study.trials) == TRIALS


def test_the_first_trial_has_the_settings_as_written(uninterrupted: list[tuple[Any, ...]]) -> None:
    assert uninterrupted[0][0] == {"train.lr": 0.001, "train.batch_size": 64, "model.hidden": "[128]"}


def test_the_course_that_is_compared_has_trials_in_every_state(uninterrupted: list[tuple[Any, ...]]) -> None:
    assert {state for _, _, state in uninterrupted} == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}


def test_without_a_starting_point_the_sampler_begins(journal: Path, search: Search) -> None:
    study = search(journal, config(1, space={"train": {"lr": {"low": 0.5, "high": 1}}}), constant)

    assert 0.5 <= study.trials[0].params["train.lr"] <= 1


def test_every_suggestion_lies_in_the_space(uninterrupted: list[tuple[Any, ...]]) -> None:
    for params, _, _ in uninterrupted:
        assert 1e-4 <= params["train.lr"] <= 0.1
        assert 8 <= params["train.batch_size"] <= 64
        assert params["model.hidden"] in {"[8]", "[16, 8]", "[128]"}
    assert len({params["train.lr"] for params, _, _ in uninterrupted}) == TRIALS


def test_the_same_seed_gives_the_same_course(
    journal: Path, uninterrupted: list[tuple[Any, ...]], search: Search
) -> None:
    assert course(search(journal, config(), objective)) == uninterrupted


def test_another_seed_gives_another_course(journal: Path, uninterrupted: list[tuple[Any, ...]], search: Search) -> None:
    assert course(search(journal, config(seed=5), objective))[1:] != uninterrupted[1:]


def raising_at(count: int, problem: BaseException, *, at_epoch: int = 1) -> Objective:
    """The objective, but the trial ``count`` is ended from outside, in its epoch ``at_epoch``."""
    calls = 0

    def function(number: int, settings: Settings) -> Iterator[float]:
        nonlocal calls
        calls += 1
        for epoch, figure in enumerate(objective(number, settings), 1):
            if calls == count and epoch == at_epoch:
                raise problem
            yield figure

    return function


@pytest.mark.parametrize(("at", "epoch"), [(2, 1), (2, 3), (4, 2), (6, 1), (8, 3), (TRIALS, 1)])
def test_an_interrupted_search_takes_the_same_course(
    journal: Path, uninterrupted: list[Any], at: int, epoch: int, search: Search
) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(journal, config(), raising_at(at, KeyboardInterrupt(), at_epoch=epoch))
    assert [trial.state for trial in as_it_lies(journal)].count(TrialState.RUNNING) == 1

    assert course(search(journal, config(), objective)) == uninterrupted


def test_a_search_interrupted_time_and_again_takes_the_same_course(
    journal: Path, uninterrupted: list[Any], search: Search
) -> None:
    for at in (2, 1, 3, 1, 2):
        with pytest.raises(KeyboardInterrupt):
            search(journal, config(), raising_at(at, KeyboardInterrupt()))

    assert course(search(journal, config(), objective)) == uninterrupted


@pytest.mark.parametrize("at", [2, 3, 8, 20])
def test_an_end_between_two_suggestions_leaves_the_same_course(
    monkeypatch: pytest.MonkeyPatch, journal: Path, uninterrupted: list[Any], at: int, search: Search
) -> None:
    write, calls = JournalStorage.set_trial_param, 0

    def ended(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        write(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(JournalStorage, "set_trial_param", ended)
        with pytest.raises(KeyboardInterrupt):
            search(journal, config(), objective)

    assert course(search(journal, config(), objective)) == uninterrupted


@pytest.mark.parametrize("at", [2, 5, 8])
def test_a_trial_whose_worker_died_is_tried_again(
    journal: Path, uninterrupted: list[Any], at: int, search: Search, worker_died: type[Exception]
) -> None:
    study = search(journal, config(), raising_at(at, worker_died("killed"), at_epoch=2))

    assert course(study) == uninterrupted
    assert len(study.trials) == TRIALS + 1


def as_it_lies(path: Path) -> list[FrozenTrial]:
    storage = JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    return optuna.load_study(study_name=None, storage=storage).trials


def test_a_last_line_that_was_not_written_to_its_end_is_dropped(
    journal: Path, uninterrupted: list[Any], search: Search
) -> None:
    search(journal, config(4), objective)
    with journal.open("ab") as opened:
        opened.write(b'{"op_code":5,"wor')
    search(journal, config(6), objective)

    assert course(search(journal, config(), objective)) == uninterrupted


def test_a_damaged_journal_is_refused(journal: Path, search: Search, opened: Search) -> None:
    search(journal, config(2), objective)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], b"{damaged\n", *lines[3:]]))

    with pytest.raises(SearchError, match=r"study\.journal: damaged \(.*; delete it to start the search over"):
        opened(journal, config())


def test_more_trials_go_on_with_the_study(
    journal: Path, uninterrupted: list[Any], search: Search, opened: Search
) -> None:
    search(journal, config(3), objective)
    assert len(course(opened(journal, config()))) == 3

    assert course(search(journal, config(), objective)) == uninterrupted


def test_a_finished_search_runs_no_trial(journal: Path, search: Search) -> None:
    search(journal, config(3), objective)

    def never(number: int, settings: Settings) -> Iterator[float]:
        raise AssertionError("a trial was run")

    for trials in (3, 2):
        assert len(course(search(journal, config(trials), never))) == 3


def test_studies_of_other_data_do_not_mix(journal: Path, search: Search, opened: Search) -> None:
    search(journal, config(3), objective)

    assert course(opened(journal, config(), fingerprint="1" * 64)) == []


@pytest.mark.parametrize(
    "problem",
    [
        TrainingError("epoch 2: the loss is no longer finite\nand more"),
        ModelError("too small"),
        ConfigError("train.lr: too high"),
        RuntimeError("shapes differ\nand more"),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_a_configuration_that_cannot_be_trained_fails_with_its_reason(
    journal: Path, problem: Exception, search: Search
) -> None:
    def function(number: int, settings: Settings) -> Iterator[float]:
        if number == 1:
            raise problem
        yield from constant(number, settings)

    trials = used_trials(search(journal, config(3), function))

    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert trials[1].user_attrs[FAILURE] == str(problem).splitlines()[0]


def constantly_worse(number: int, settings: Settings) -> Iterator[float]:
    yield from (-number + 0.1, -number + 0.2, -number + 0.3)


def test_a_pruned_trial_counts_with_its_last_figure(journal: Path, search: Search) -> None:
    *_, trial = used_trials(search(journal, config(8), constantly_worse))

    assert (trial.state, trial.value) == (TrialState.PRUNED, -6.9)


def test_trials_that_fall_behind_are_pruned_once_there_are_some_to_compare_with(journal: Path, search: Search) -> None:
    states = [state for _, _, state in course(search(journal, config(8), constantly_worse))]

    assert states == [TrialState.COMPLETE] * 5 + [TrialState.PRUNED] * 3


def test_without_a_pruner_no_trial_is_pruned(journal: Path, search: Search) -> None:
    states = {state for _, _, state in course(search(journal, config(8, pruner="none"), constantly_worse))}

    assert states == {TrialState.COMPLETE}


@pytest.mark.parametrize("problem", [TrackingError("away"), KeyboardInterrupt(), SystemExit(), ValueError("ours")])
def test_what_is_not_the_configurations_fault_ends_the_search(
    journal: Path, problem: BaseException, search: Search
) -> None:
    with pytest.raises(type(problem)) as caught:
        search(journal, config(), raising_at(2, problem))

    assert caught.value is problem


@pytest.mark.parametrize(("monitor", "best"), [("accuracy", 3.0), ("loss", 1.0)])
def test_the_best_trial_is_the_one_with_the_best_monitored_figure(
    journal: Path, monitor: str, best: float, search: Search
) -> None:
    def function(number: int, settings: Settings) -> Iterator[float]:
        yield from [(2.0, 3.0, 1.0)[number]] * 3

    study = search(journal, config(3, monitor=monitor), function)

    assert best_trial(study).value == best


def failing(number: int, settings: Settings) -> Iterator[float]:
    raise TrainingError(f"reason {number}")


def test_a_search_without_a_complete_trial_is_refused_with_the_first_reason(journal: Path, search: Search) -> None:
    study = search(journal, config(3), failing)

    with pytest.raises(SearchError, match=r"^none of the 3 trials completed; the first failed with: reason 0$"):
        best_trial(study)


def test_a_search_whose_time_was_over_before_its_first_trial_is_refused() -> None:
    with pytest.raises(SearchError, match=r"^search\.minutes: elapsed before any trial completed; raise it$"):
        best_trial(study_of([]))


def test_a_search_whose_trials_were_all_pruned_is_refused() -> None:
    study = study_of([trial(TrialState.PRUNED, 0.4)] * 2)

    with pytest.raises(SearchError, match=r"^none of the 2 trials completed; .*: all were pruned$"):
        best_trial(study)
