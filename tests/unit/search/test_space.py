"""The declared space becomes Optuna's distributions, and the settings as written a point of it."""

from typing import Any

import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from darkroom.config import Config, parse, tunable_keys
from darkroom.errors import ConfigError, SearchError
from darkroom.search.space import (
    check_colors,
    check_devices,
    check_space,
    distributions,
    from_optuna,
    starting_point,
)

CPU = torch.device("cpu")


def config(space: dict[str, dict[str, Any]], **sections: Any) -> Config:
    return parse({"search": {"space": space}, **sections}, where="")


@pytest.mark.parametrize(
    ("section", "key", "values", "expected"),
    [
        ("train", "lr", {"low": 0.1, "high": 2}, FloatDistribution(0.1, 2)),
        ("train", "lr", {"low": 1, "high": 2}, FloatDistribution(1, 2)),
        ("train", "lr", {"low": 1e-4, "high": 0.1, "log": True}, FloatDistribution(1e-4, 0.1, log=True)),
        ("model", "dropout", {"low": 0.0, "high": 0.5, "step": 0.1}, FloatDistribution(0, 0.5, step=0.1)),
        ("train", "clip_norm", {"low": 1, "high": 5}, FloatDistribution(1, 5)),
        ("train", "batch_size", {"low": 8, "high": 64}, IntDistribution(8, 64)),
        ("train", "batch_size", {"low": 8, "high": 64, "log": True}, IntDistribution(8, 64, log=True)),
        ("train", "batch_size", {"low": 16, "high": 64, "step": 16}, IntDistribution(16, 64, step=16)),
        ("train", "patience", {"low": 1, "high": 5}, IntDistribution(1, 5)),
        ("augment", "translate", {"low": 0, "high": 2}, IntDistribution(0, 2)),
        ("augment", "flip", {"choices": ["random", "none"]}, CategoricalDistribution(["random", "none"])),
        ("augment", "hue", {"low": 0, "high": 0.5}, FloatDistribution(0, 0.5)),
        ("augment", "blur", {"low": 0.0, "high": 2.0, "step": 0.5}, FloatDistribution(0, 2, step=0.5)),
        ("augment", "flip_vertical", {"choices": [True, False]}, CategoricalDistribution([True, False])),
        (
            "augment",
            "crop_scale",
            {"choices": [None, [0.25, 1.0]]},
            CategoricalDistribution([None, "[0.25, 1.0]"]),
        ),
        ("train", "optimizer", {"choices": ["sgd", "adam"]}, CategoricalDistribution(["sgd", "adam"])),
        ("train", "clip_norm", {"choices": [None, 1.0]}, CategoricalDistribution([None, 1.0])),
        ("model", "hidden", {"choices": [[8, 4], [16], []]}, CategoricalDistribution(["[8, 4]", "[16]", "[]"])),
    ],
)
def test_values_become_the_distribution_that_they_describe(section, key, values, expected) -> None:
    space = config({section: {key: values}}).search.space.flat()

    assert distributions(space) == {f"{section}.{key}": expected}


@pytest.mark.parametrize("values", [{"low": 0.0, "high": 0.5}, {"choices": [0.0, 0.5]}])
def test_what_optuna_suggests_is_a_setting(values: dict[str, Any]) -> None:
    written = config({"model": {"dropout": values, "hidden": {"choices": [[8, 4], [], 16]}}})
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask(
        distributions(written.search.space.flat())
    )

    found = written.with_settings({key: from_optuna(value) for key, value in trial.params.items()})

    assert 0 <= found.model.dropout <= 0.5
    assert found.model.hidden in {(8, 4), (), (16,)}


@pytest.mark.parametrize("value", [[8, 4], [16], [], None, 3, 0.5, "adamw"])
def test_a_choice_survives_the_way_through_optuna(value: Any) -> None:
    (key,) = [{list: "model.hidden", str: "train.optimizer"}.get(type(value), "train.clip_norm")]
    section, name = key.split(".")
    (found,) = distributions(config({section: {name: {"choices": [value]}}}).search.space.flat()).values()

    assert isinstance(found, CategoricalDistribution)
    assert from_optuna(found.choices[0]) == value


INSIDE: list[tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, Any]]] = [
    ({}, {"train": {"lr": {"low": 1e-4, "high": 0.1}}}, {"train.lr": 0.001}),
    ({}, {"train": {"batch_size": {"choices": [32, 64]}}}, {"train.batch_size": 64}),
    ({"train": {"lr": 0.1}}, {"train": {"lr": {"low": 0.01, "high": 0.1}}}, {"train.lr": 0.1}),
    ({"model": {"dropout": 0.3}}, {"model": {"dropout": {"low": 0, "high": 0.5, "step": 0.1}}}, {"model.dropout": 0.3}),
    ({}, {"model": {"dropout": {"choices": [0.0, 0.25]}}}, {"model.dropout": 0.25}),
    ({}, {"model": {"filters": {"choices": [[16], [32, 64]]}}}, {"model.filters": "[32, 64]"}),
    ({"model": {"filters": [8]}}, {"model": {"filters": {"choices": [[8], [9]]}}}, {"model.filters": "[8]"}),
    ({"model": {"filters": 8}}, {"model": {"filters": {"choices": [8, [9, 9]]}}}, {"model.filters": 8}),
    ({"model": {"filters": 8}}, {"model": {"filters": {"low": 4, "high": 16}}}, {"model.filters": 8}),
    ({}, {"train": {"clip_norm": {"choices": [None, 1.0]}}}, {"train.clip_norm": None}),
    ({}, {"augment": {"flip": {"choices": ["random", "none"]}}}, {"augment.flip": "none"}),
    ({}, {"augment": {"crop_scale": {"choices": [None, [0.25, 1]]}}}, {"augment.crop_scale": None}),
]
OUTSIDE: list[tuple[dict[str, Any], dict[str, dict[str, Any]]]] = [
    ({}, {"train": {"lr": {"low": 0.01, "high": 0.1}}}),
    ({}, {"train": {"batch_size": {"choices": [16, 32]}}}),
    ({"model": {"dropout": 0.25}}, {"model": {"dropout": {"low": 0, "high": 0.5, "step": 0.1}}}),
    ({}, {"model": {"filters": {"choices": [[16], [32]]}}}),
    ({}, {"model": {"filters": {"low": 4, "high": 64}}}),
    ({}, {"train": {"clip_norm": {"low": 0.5, "high": 1}}}),
    ({}, {"train": {"lr": {"low": 1e-4, "high": 0.1}, "batch_size": {"choices": [16, 32]}}}),
]


@pytest.mark.parametrize(("written", "space", "point"), INSIDE)
def test_the_settings_as_written_are_a_point_of_a_space_that_holds_them(written, space, point) -> None:
    assert starting_point(config(space, **written)) == point


@pytest.mark.parametrize(("written", "space", "point"), INSIDE)
def test_the_starting_point_is_taken_by_optuna_as_it_is(written, space, point) -> None:
    found = config(space, **written)
    study = optuna.create_study()
    study.enqueue_trial(starting_point(found))

    assert study.ask(distributions(found.search.space.flat())).params == point


@pytest.mark.parametrize(("written", "space"), OUTSIDE)
def test_settings_outside_the_space_are_no_starting_point(written, space) -> None:
    assert starting_point(config(space, **written)) is None


def test_a_setting_that_the_architecture_does_not_take_is_refused() -> None:
    space = {"model": {"filters": {"choices": [[8], [16]]}}}

    with pytest.raises(
        SearchError,
        match=r"^search\.space\.model\.filters: mlp does not take it; choose from: hidden, dropout$",
    ):
        check_space(config(space, model={"name": "mlp"}))


def test_settings_that_the_architecture_takes_pass() -> None:
    space = {"model": {"hidden": {"choices": [[8], [16]]}}, "train": {"lr": {"low": 0.1, "high": 1}}}

    check_space(config(space, model={"name": "mlp"}))


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a choice": (
        {"name": "resnet"},
        {"depth": {"choices": [10, 11, 18]}},
        r"^search\.space\.model\.depth: model\.depth: resnet comes with 9, 10, 18, 34 layers, not with 11$",
    ),
    "a list of the wrong length": (
        {"name": "fast-cnn"},
        {"filters": {"choices": [[64, 256, 256], [64, 256]]}},
        r"^search\.space\.model\.filters: model\.filters: fast-cnn has 3 groups, so it needs 3 .*, got \[64, 256\]$",
    ),
    "an end of a range": (
        {"name": "wide-resnet"},
        {"depth": {"low": 10, "high": 20}},
        r"^search\.space\.model\.depth: model\.depth: wide-resnet has 6n \+ 4 layers \(10, .*\), not 20$",
    ),
    "a choice that no other value helps": (
        {"name": "resnet"},
        {"width": {"choices": [8, 16]}, "depth": {"choices": [9, 12]}},
        r"^search\.space\.model\.depth: model\.depth: resnet comes with .* not with 12$",
    ),
    "a backbone": (
        {"name": "pretrained", "train": "all"},
        {"backbone": {"choices": ["resnet18", "resnet19"]}},
        r"^search\.space\.model\.backbone: model\.backbone: no model 'resnet19'; did you mean ",
    ),
    "what the space does not change": (
        {"name": "pretrained", "backbone": "resnet19"},
        {"head_init": {"choices": ["zeros", "classes"]}},
        r"^model\.backbone: no model 'resnet19'; did you mean ",
    ),
}


@pytest.mark.parametrize(("model", "space", "message"), REFUSED.values(), ids=REFUSED)
def test_values_that_the_architecture_cannot_be_built_with_are_refused(
    model: dict[str, Any], space: dict[str, Any], message: str
) -> None:
    with pytest.raises(SearchError, match=message):
        check_space(config({"model": space}, model=model))


@pytest.mark.parametrize("key", ["saturation", "hue"])
def test_changes_of_color_are_not_searched_where_images_have_none(key: str) -> None:
    searched = config({"augment": {key: {"low": 0.0, "high": 0.5}, "blur": {"low": 0.0, "high": 1.0}}})

    check_colors(searched, 3)
    with pytest.raises(
        SearchError,
        match=rf"^search\.space\.augment\.{key}: has no effect on images of one channel; drop it$",
    ):
        check_colors(searched, 1)


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkroom.training.device.cores", lambda: [0, 1, 2, 3])


DIVISIBLE = {"choices": [64, 128]}
UNDIVIDED: dict[str, tuple[dict[str, Any], dict[str, Any], type[Exception], str]] = {
    "as written": ({"batch_size": 65}, {"lr": {"low": 0.1, "high": 1}}, ConfigError, r"train\.batch_size: 65 .* 66$"),
    "a choice": (
        {}, {"batch_size": {"choices": [64, 65]}}, SearchError, r"search\.space: train\.batch_size: 65 .* 66$",
    ),
    "within a range": (
        {}, {"batch_size": {"low": 64, "high": 68}}, SearchError, r"search\.space: train\.batch_size: 65 .* 66$",
    ),
    "in some number of parts": (
        {}, {"batch_size": DIVISIBLE, "accumulate": {"choices": [2, 64]}}, SearchError,
        r"search\.space: train\.batch_size: 64 in 64 parts cannot be divided among 2 devices; the next that can is 66$",
    ),
    "in parts as written": (
        {"accumulate": 64, "batch_size": 128}, {"batch_size": DIVISIBLE}, SearchError,
        r"search\.space: train\.batch_size: 64 in 64 parts",
    ),
    "as written, beside a search that could do without": (
        {"batch_size": 65}, {"batch_size": DIVISIBLE}, ConfigError, r"train\.batch_size: 65 .* 66$",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(("train", "space", "problem", "message"), UNDIVIDED.values(), ids=UNDIVIDED)
def test_a_batch_that_the_devices_of_the_training_cannot_divide_is_refused_before_the_search(
    train: dict[str, Any], space: dict[str, Any], problem: type[Exception], message: str
) -> None:
    with pytest.raises(problem, match=f"^{message}"):
        check_devices(config({"train": space}, train=train | {"devices": 2}), CPU)
    check_devices(config({"train": space}, train=train), CPU)


@pytest.mark.usefixtures("four_cores")
def test_batches_that_the_devices_can_divide_pass() -> None:
    ranged = {"batch_size": {"low": 64, "high": 256, "step": 2}}
    check_devices(config({"train": ranged}, train={"devices": 2, "batch_size": 64}), CPU)
    all_of_them = {"batch_size": {"low": 1, "high": 65_536}, "accumulate": {"low": 1, "high": 1024}}
    check_devices(config({"train": all_of_them}), CPU)  # which one device need not divide


@pytest.mark.usefixtures("four_cores")
def test_more_devices_than_there_are_are_refused_before_the_search() -> None:
    searched = {"train": {"lr": {"low": 0.1, "high": 1}}}
    asked = config(searched, train={"devices": 8})
    with pytest.raises(ConfigError, match=r"^train\.devices: 8 are more than this machine has \(4 cores\)"):
        check_devices(asked, CPU)

    check_devices(config(searched, train={"devices": 8, "executor": "ray"}), CPU)  # a cluster may have as many
    head = {"name": "pretrained", "train": "head"}
    check_devices(config(searched, train={"devices": 8}, model=head), CPU)


def test_a_value_that_goes_with_another_one_of_the_space_passes() -> None:
    """The depth as written is none that the architecture has, whatever its filters."""
    space = {"filters": {"choices": [[8, 8, 8], [16, 16, 16]]}, "depth": {"choices": [8, 11]}}

    check_space(config({"model": space}, model={"name": "fast-cnn", "depth": 9}))


def test_every_searchable_setting_has_a_distribution() -> None:
    defaults = Config().flat() | {"model.filters": [8], "model.hidden": [8], "model.dropout": 0.1}

    for key in tunable_keys():
        section, name = key.split(".")
        found = distributions(config({section: {name: {"choices": [defaults[key]]}}}).search.space.flat())
        assert list(found) == [key]
