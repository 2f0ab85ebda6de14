"""Which study a search goes on with: what was made for something else is not mixed with, and nothing is lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from darkroom.config import Config, parse
from darkroom.data.cache import DatasetCard
from darkroom.errors import SearchError
from darkroom.search.storage import open_storage
from darkroom.search.study import used_trials
from darkroom.search.study_key import base_name

Open = Callable[..., optuna.Study]
LR = {"low": 1e-4, "high": 0.1, "log": True}


def config(trials: int = 3, **changes: Any) -> Config:
    tree: dict[str, Any] = {"search": {"trials": trials, "space": {"train": {"lr": LR}}}, "train": {}}
    for name, value in changes.items():
        section, _, key = name.partition("__")
        tree.setdefault(section, {})[key] = value
    return parse(tree, where="")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.journal"


def names(path: Path) -> list[str]:
    return optuna.get_all_study_names(open_storage(config(), path))


WHAT_DOES_NOT_MATTER: dict[str, Any] = {
    "search__trials": 50,
    "search__minutes": 5.0,
    "search__stall": 9,
    "search__finalists": 0,
    "search__repeats": 9,
    "search__fuse": "off",
    "search__workers": 4,
    "search__executor": "ray",
    "search__ray_address": "127.0.0.1:6379",
    "search__worker_cpus": 2,
    "search__worker_gpus": 1.0,
    "evaluate__top_k": 5,
}
WHAT_MATTERS: dict[str, tuple[Any, str]] = {
    "train__lr": (0.01, r"train\.lr: was 0\.001, is 0\.01"),
    "augment__translate": (2, r"augment\.translate: was 0, is 2"),
    "model__hidden": ([8], r"model\.hidden: was null, is \[8\]"),
    "search__seed": (1, r"search\.seed: was 0, is 1"),
    "search__epochs": (7, r"search\.epochs: was null, is 7"),
    "search__sampler": ("gp", r'search\.sampler: was "tpe", is "gp"'),
    "search__pruner": ("none", r'search\.pruner: was "median", is "none"'),
    "search__space": (
        {"train": {"lr": {**LR, "high": 0.2}}},
        r'search\.space\.train\.lr: was {"low": 0\.0001, "high": 0\.1, "log": true}, '
        r'is {"low": 0\.0001, "high": 0\.2, "log": true}',
    ),
}


@pytest.mark.parametrize(("name", "value"), WHAT_DOES_NOT_MATTER.items())
def test_how_much_is_searched_and_where_does_not_make_another_study(
    path: Path, opened: Open, name: str, value: Any
) -> None:
    first = opened(path, config()).study_name

    for start in ("matching", "resume"):
        assert opened(path, config(**{name: value}), start=start).study_name == first


def test_where_studies_are_kept_does_not_make_another_study(make_card: Callable[[], DatasetCard]) -> None:
    elsewhere = config(search__storage="postgresql://somebody@somewhere/studies")

    assert base_name(elsewhere, make_card()) == base_name(config(), make_card())


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (value, _) in WHAT_MATTERS.items()])
def test_what_gives_a_trial_its_meaning_makes_another_study(path: Path, opened: Open, name: str, value: Any) -> None:
    first = opened(path, config()).study_name

    assert opened(path, config(**{name: value})).study_name != first
    assert opened(path, config()).study_name == first


@pytest.mark.parametrize(
    ("name", "value", "message"), [(name, value, message) for name, (value, message) in WHAT_MATTERS.items()]
)
def test_a_study_made_for_something_else_is_not_resumed(
    path: Path, opened: Open, name: str, value: Any, message: str
) -> None:
    opened(path, config())

    with pytest.raises(SearchError) as caught:
        opened(path, config(**{name: value}), start="resume")

    assert caught.match(
        rf"^--resume: the latest study was made for something else \({message}\); "
        r"set that back, or start a new one with --fresh$"
    )


def test_every_key_that_differs_is_named(path: Path, opened: Open) -> None:
    opened(path, config())
    space = {"train": {"momentum": {"low": 0.5, "high": 0.9}}}

    with pytest.raises(SearchError) as caught:
        opened(path, config(train__seed=2, search__space=space), fingerprint="1" * 64, start="resume")

    assert caught.match(rf'dataset\'s fingerprint: was "{"0" * 64}", is "{"1" * 64}"; train\.seed: was 0, is 2; ')
    assert caught.match(
        r"search\.space\.train\.lr: was {.*}, is absent; search\.space\.train\.momentum: was absent, is {"
    )
    assert "\n" not in str(caught.value)


def test_the_study_that_was_opened_last_is_the_one_to_resume(path: Path, opened: Open) -> None:
    first = opened(path, config()).study_name
    opened(path, config(train__seed=1))

    with pytest.raises(SearchError, match=r"train\.seed: was 1, is 0"):
        opened(path, config(), start="resume")
    opened(path, config())
    assert opened(path, config(), start="resume").study_name == first


def test_without_a_study_there_is_nothing_to_resume(path: Path, opened: Open) -> None:
    with pytest.raises(SearchError, match=r"^--resume: there is no study to resume; leave it out to start one$"):
        opened(path, config(), start="resume")

    assert names(path) == []


def test_a_fresh_study_leaves_the_old_one_as_it_is(path: Path, opened: Open, run_trials: Callable[..., Any]) -> None:
    old = opened(path, config())
    run_trials(old, config(), lambda number, settings: iter([0.5] * 20))

    fresh = opened(path, config(), start="fresh")

    assert fresh.study_name == f"{old.study_name}-2"
    assert used_trials(fresh) == []
    assert len(used_trials(optuna.load_study(study_name=old.study_name, storage=open_storage(config(), path)))) == 3


def test_a_search_goes_on_with_the_freshest_study_of_its_settings(path: Path, opened: Open) -> None:
    base = opened(path, config()).study_name
    for number in range(2, 12):
        assert opened(path, config(), start="fresh").study_name == f"{base}-{number}"

    for start in ("matching", "resume"):
        assert opened(path, config(), start=start).study_name == f"{base}-11"


def test_a_fresh_start_without_a_study_begins_the_first(path: Path, opened: Open) -> None:
    assert opened(path, config(), start="fresh").study_name == opened(path, config()).study_name
