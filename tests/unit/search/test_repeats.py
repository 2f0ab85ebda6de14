"""The best configurations and the settings as written are trained again with seeds that no trial had."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

from darkroom.config import Config, parse
from darkroom.errors import TrainingError
from darkroom.search.repeats import Candidate, RepeatTrials, open_repeats
from darkroom.search.storage import open_storage
from darkroom.search.study import interrupted

Settings = Mapping[str, Any]
Objective = Callable[[int, Settings], Iterator[float]]
Search = Callable[..., optuna.Study]
SIZES = [8, 16, 24, 32, 40, 48, 56, 64]


def config(finalists: int = 2, repeats: int = 3, **changes: Any) -> Config:
    search = {"trials": 8, "sampler": "grid", "pruner": "none", "finalists": finalists, "repeats": repeats}
    search |= {"space": {"train": {"batch_size": {"choices": SIZES}}}, **changes}
    return parse({"search": search, "train": {"epochs": 2, "seed": 5, "batch_size": 32}}, where="")


class Trained:
    """Remembers what was trained; the figure is the batch size, and in its second epoch less by the seed."""

    def __init__(self) -> None:
        self.settings: list[Settings] = []

    def __call__(self, number: int, settings: Settings) -> Iterator[float]:
        self.settings.append(settings)
        size = settings.get("train.batch_size", 32)
        yield from (size / 100, (size - settings.get("train.seed", 5)) / 100)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.journal"


@pytest.fixture
def repeat(path: Path, search: Search, run_trials: Callable[..., Any]) -> Callable[..., RepeatTrials]:
    """Search the eight batch sizes, or go on with that, and train the best of them again."""

    def repeat(settings: Config, objective: Objective, **places: Any) -> RepeatTrials:
        study = search(path, settings, Trained(), cost=places.get("cost"))
        source = RepeatTrials(study, open_repeats(open_storage(settings, path), study, settings), settings)
        run_trials(study, settings, objective, source=source, **places)
        return source

    return repeat


def test_each_is_trained_with_seeds_that_no_trial_had(repeat: Callable[..., RepeatTrials]) -> None:
    trained = Trained()

    repeat(config(), trained)

    seeds = {}
    for settings in trained.settings:
        seeds.setdefault(settings.get("train.batch_size"), []).append(settings["train.seed"])
    assert seeds == {None: [6, 7, 8], 64: [6, 7, 8], 56: [6, 7, 8]}
    assert {settings["train.epochs"] for settings in trained.settings} == {2}


def test_the_candidates_have_their_best_figure_of_each_seed(repeat: Callable[..., RepeatTrials]) -> None:
    source = repeat(config(), Trained())

    start, first, second = source.candidates()

    assert start.label == "starting point"
    assert start.settings == {}
    assert start.values == (0.32, 0.32, 0.32)
    assert first == Candidate(f"trial {first.trial}", first.trial, {"train.batch_size": 64}, (0.64,) * 3, ())
    assert second.settings == {"train.batch_size": 56}


def test_the_starting_point_names_the_trial_that_had_its_settings(repeat: Callable[..., RepeatTrials]) -> None:
    assert repeat(config(), Trained()).candidates()[0].trial == 0


def test_settings_outside_the_space_are_trained_all_the_same(repeat: Callable[..., RepeatTrials]) -> None:
    settings = config(space={"train": {"batch_size": {"choices": [8, 16]}}})

    start, *others = repeat(settings, Trained()).candidates()

    assert (start.trial, start.settings, start.values) == (None, {}, (0.32, 0.32, 0.32))
    assert [each.settings["train.batch_size"] for each in others] == [16, 8]


def test_a_starting_point_among_the_best_is_one_candidate(repeat: Callable[..., RepeatTrials]) -> None:
    def small_is_good(number: int, settings: Settings) -> Iterator[float]:
        yield from (0.5, 0.5)

    settings = config(finalists=2, space={"train": {"batch_size": {"choices": [8, 32]}}})

    assert [each.label for each in repeat(settings, small_is_good).candidates()] == ["starting point", "trial 1"]


def test_equal_configurations_are_one_candidate(repeat: Callable[..., RepeatTrials]) -> None:
    settings = config(finalists=8, sampler="random", trials=40)

    found = repeat(settings, Trained()).candidates()

    assert len({each.settings.get("train.batch_size") for each in found}) == len(found) == 8


def test_without_finalists_nothing_is_trained_again(repeat: Callable[..., RepeatTrials]) -> None:
    trained = Trained()

    assert repeat(config(finalists=0), trained).candidates() == []
    assert trained.settings == []


def test_a_repeat_that_fails_is_kept_with_its_reason(repeat: Callable[..., RepeatTrials]) -> None:
    def failing(number: int, settings: Settings) -> Iterator[float]:
        if settings["train.seed"] == 7 and settings.get("train.batch_size") == 64:
            raise TrainingError("epoch 1: the loss is no longer finite")
        yield from (0.5, 0.4)

    _, best, other = repeat(config(), failing).candidates()

    assert best.values == (0.5, 0.5)
    assert best.failures == ("epoch 1: the loss is no longer finite",)
    assert other.failures == ()


def test_repeats_that_were_killed_go_on_where_they_were(repeat: Callable[..., RepeatTrials]) -> None:
    whole, calls = Trained(), 0

    def killed(number: int, settings: Settings) -> Iterator[float]:
        nonlocal calls
        calls += 1
        if calls in {1, 4, 9}:
            raise KeyboardInterrupt
        yield from whole(number, settings)

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            repeat(config(), killed)
    source = repeat(config(), killed)

    assert len(whole.settings) == 9
    assert len(interrupted(source.study)) == 3
    assert [len(each.values) for each in source.candidates()] == [3, 3, 3]


def test_a_repeat_whose_worker_died_is_trained_again(
    repeat: Callable[..., RepeatTrials], worker_died: type[Exception]
) -> None:
    calls = 0

    def dying(number: int, settings: Settings) -> Iterator[float]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise worker_died("killed")
        yield from (0.5, 0.5)

    source = repeat(config(), dying, slots=2, capacity=2)

    assert [len(each.values) for each in source.candidates()] == [3, 3, 3]


def test_repeats_of_before_are_used_again(repeat: Callable[..., RepeatTrials]) -> None:
    repeat(config(repeats=2), Trained())
    more = Trained()

    source = repeat(config(repeats=3, finalists=3), more)

    assert [len(each.values) for each in source.candidates()] == [3, 3, 3, 3]
    assert len(more.settings) == 3 + 3


def test_a_repeat_says_whose_it_is_and_its_seed(repeat: Callable[..., RepeatTrials]) -> None:
    source = repeat(config(finalists=1, repeats=2), Trained())

    names = [source.name(trial) for trial in source.study.trials]
    best = source.candidates()[1].trial
    assert names == [
        "starting point, seed 6",
        f"trial {best}, seed 6",
        "starting point, seed 7",
        f"trial {best}, seed 7",
    ]
    assert {"repeat_of": best, "seed": 6}.items() <= source.study.trials[1].user_attrs.items()


def test_of_two_objectives_the_front_is_trained_again(repeat: Callable[..., RepeatTrials]) -> None:
    def cost(number: int, settings: Settings) -> float:
        return float(settings.get("train.batch_size", 32) == 64)

    settings = config(finalists=3, second_objective="parameters")

    _, *finalists = repeat(settings, Trained(), cost=cost).candidates()

    assert [each.settings["train.batch_size"] for each in finalists] == [64, 56]
    assert finalists[0].values == (0.64,) * 3
