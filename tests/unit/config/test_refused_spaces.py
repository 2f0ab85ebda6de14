"""A wrong search is refused in a line with its key, the rule and the value; a valid one is accepted."""

from typing import Any

import pytest
from tests.unit.config.spaces import space

from darkroom.config import parse
from darkroom.errors import ConfigError

LR = "search.space.train.lr"
REFUSED_SPACES: dict[str, tuple[dict[str, Any], str]] = {
    "trials without a space": (
        {"search": {"trials": 3}},
        r"^search\.space: empty, but search\.trials is not 0; name settings to search or set it to 0",
    ),
    "epochs below the warm-up": (
        {"train": {"warmup_epochs": 3}, "search": {"epochs": 3}},
        r"^search\.epochs: train\.warmup_epochs: must be below epochs \(3\), got 3",
    ),
    "unknown section": (
        space("optim", "lr", {}),
        r"^search\.space\.optim: unknown key; choose from: model, train, aug",
    ),
    "list of settings": (
        {"search": {"space": {"train": [1]}}},
        r"^search\.space\.train: expected a section .*got \[1\]",
    ),
    "unknown key": (
        space("train", "batchsize", {"choices": [1]}),
        r"^search\.space\.train\.batchsize: cannot be searched; did you mean 'batch_size'\?",
    ),
    "fixed key": (
        space("train", "epochs", {"low": 1, "high": 2}),
        r"^search\.space\.train\.epochs: cannot be searched; did you mean 'warmup_epochs'",
    ),
    "architecture": (space("model", "name", {"choices": ["mlp"]}), r"^search\.space\.model\.name: cannot be searched"),
    "a bare value": (space("train", "lr", 0.1), rf"^{LR}: expected a section with keys below it, got 0\.1"),
    "a bare list": (space("train", "lr", [0.1, 1]), rf"^{LR}: expected a section with keys below it, got \[0\.1, 1\]"),
    "no upper end": (space("train", "lr", {"low": 0.1}), rf"^{LR}\.high: required, but not given$"),
    "misspelt end": (space("train", "lr", {"low": 1, "hihg": 2, "high": 3}), rf"^{LR}\.hihg: unknown .*mean 'high'\?"),
    "low above high": (
        space("train", "lr", {"low": 1, "high": 0.1}),
        rf"^{LR}: low must be below high, got low 1, high 0\.1",
    ),
    "low equal to high": (
        space("train", "lr", {"low": 1, "high": 1}),
        rf"^{LR}: low must be below high, got low 1, hi",
    ),
    "numbers for an interval": (
        space("augment", "crop_scale", {"low": 0.1, "high": 0.5}),
        r"^search\.space\.augment\.crop_scale: augment\.crop_scale: expected a list, got 0\.1$",
    ),
    "numbers for yes and no": (
        space("augment", "flip_vertical", {"low": 0, "high": 1}),
        r"^search\.space\.augment\.flip_vertical: augment\.flip_vertical: expected boolean, got 0$",
    ),
    "log from zero": (
        space("model", "dropout", {"low": 0, "high": 0.5, "log": True}),
        r"^search\.space\.model\.dropout: log needs low above 0, got 0",
    ),
    "log with step": (
        space("train", "lr", {"low": 0.1, "high": 0.3, "log": True, "step": 0.1}),
        rf"^{LR}: log and step exclude each other; drop one",
    ),
    "step of zero": (
        space("train", "lr", {"low": 0.1, "high": 0.3, "step": 0}),
        rf"^{LR}\.step: expected greater than 0, got 0",
    ),
    "step past the end": (
        space("train", "lr", {"low": 0.1, "high": 0.3, "step": 5}),
        rf"^{LR}: step must divide high - low, got low 0\.1, high 0\.3, step 5",
    ),
    "step that misses the end": (
        space("train", "batch_size", {"low": 16, "high": 100, "step": 16}),
        r"^search\.space\.train\.batch_size: step must divide high - low, got low 16, high 100, step 16",
    ),
    "fraction of a whole number": (
        space("train", "batch_size", {"low": 1, "high": 4, "step": 1.5}),
        r"^search\.space\.train\.batch_size\.step: expected integer, got 1\.5",
    ),
    "truth as end": (
        space("train", "lr", {"low": True, "high": 2}),
        rf"^{LR}\.low: expected a finite number, got True$",
    ),
    "infinite end": (
        space("train", "lr", {"low": 1, "high": float("inf")}),
        rf"^{LR}\.high: expected a finite number, got inf$",
    ),
    "no choice": (space("train", "lr", {"choices": []}), rf"^{LR}\.choices: expected at least 1 value, got \[\]"),
    "too many choices": (
        space("train", "seed", {"choices": list(range(101))}),
        r"^search\.space\.train\.seed\.choices: expected at most 100 values, got \[0, 1, .*…$",
    ),
    "choices not a list": (space("train", "lr", {"choices": 3}), rf"^{LR}\.choices: expected a list, got 3"),
    "a choice twice": (space("train", "lr", {"choices": [1, 2, 1]}), rf"^{LR}: choices must differ, got \[1, 2, 1\]"),
    "a list and its only number": (
        space("model", "filters", {"choices": [8, [8], 16]}),
        r"^search\.space\.model\.filters: choices must differ, got \[8, \(8,\), 16\]$",
    ),
    "a list twice": (
        space("model", "filters", {"choices": [[8, 16], [8, 16]]}),
        r"^search\.space\.model\.filters: choices must differ",
    ),
    "choices with ends": (
        space("train", "lr", {"choices": [1], "low": 2}),
        rf"^{LR}\.low: unknown key; choose from: choices",
    ),
    "end out of the setting's range": (
        space("train", "lr", {"low": 0.0, "high": 0.1}),
        rf"^{LR}: train\.lr: expected greater than 0, got 0\.0",
    ),
    "choice out of the setting's range": (
        space("train", "batch_size", {"choices": [32, 0]}),
        r"^search\.space\.train\.batch_size: train\.batch_size: expected greater than or equal to 1, got 0",
    ),
    "choice of another type": (
        space("model", "filters", {"choices": [[8], ["a"]]}),
        r"^search\.space\.model\.filters: model\.filters\.0: expected integer, got 'a'$",
    ),
    "fractions for a whole number": (
        space("train", "batch_size", {"low": 1.5, "high": 2.5}),
        r"^search\.space\.train\.batch_size: train\.batch_size: expected integer, got 1\.5",
    ),
    "interval of names": (
        space("train", "optimizer", {"low": 1, "high": 2}),
        r"^search\.space\.train\.optimizer: train\.optimizer: expected 'adam', 'adamw', 'sgd' or 'muon', got 1",
    ),
    "choice that contradicts another setting": (
        {"train": {"warmup_epochs": 1}, **space("train", "schedule", {"choices": ["cosine", "one-cycle"]})},
        r"^search\.space\.train\.schedule: train\.warmup_epochs: one-cycle warms up by itself",
    ),
    "choices of several types": (
        space("train", "lr", {"choices": [0.1, "fast"]}),
        rf"^{LR}: train\.lr: expected number, got 'fast'$",
    ),
    "names for numbers": (
        space("train", "optimizer", {"choices": ["sgd", 1]}),
        r"^search\.space\.train\.optimizer: train\.optimizer: expected 'adam', 'adamw', 'sgd' or 'muon', got 1$",
    ),
    "a grid over fractions without a step": (
        space("train", "lr", {"low": 0.1, "high": 0.3}, sampler="grid", trials=9),
        rf"^{LR}: search\.sampler grid needs a step; add one, or list choices$",
    ),
    "a grid of more points than trials": (
        space("train", "batch_size", {"low": 16, "high": 64, "step": 16}, sampler="grid", trials=3),
        r"^search\.sampler: a grid of this space has 4 points, but search\.trials is 3; raise it, search fewer ",
    ),
    "a grid of whole numbers and choices": (
        {
            "search": {
                "sampler": "grid",
                "trials": 20,
                "space": {
                    "augment": {"translate": {"low": 0, "high": 2}},
                    "model": {"dropout": {"low": 0, "high": 0.3, "step": 0.1}},
                    "train": {"optimizer": {"choices": ["sgd", "adam"]}},
                },
            }
        },
        r"^search\.sampler: a grid of this space has 24 points, but search\.trials is 20;",
    ),
    "choices for CMA-ES": (
        space("train", "optimizer", {"choices": ["sgd", "adam"]}, sampler="cma-es"),
        r"^search\.space\.train\.optimizer: search\.sampler cma-es takes no choices; give low and high$",
    ),
    "two objectives for CMA-ES": (
        space("train", "lr", {"low": 0.1, "high": 0.3}, sampler="cma-es", second_objective="latency", pruner="none"),
        r"^search\.sampler: cma-es takes one objective, but search\.second_objective is latency; choose from: ",
    ),
    "two objectives for a pruner": (
        space("train", "lr", {"low": 0.1, "high": 0.3}, second_objective="parameters"),
        r"^search\.pruner: median judges by one metric, but search\.second_objective is parameters; set .* to none$",
    ),
    "end that the shorter trials cannot take": (
        space("train", "warmup_epochs", {"low": 0, "high": 5}, epochs=3),
        r"^search\.space\.train\.warmup_epochs.*: must be below epochs \(3\), got 5",
    ),
}


@pytest.mark.parametrize(("sections", "message"), REFUSED_SPACES.values(), ids=REFUSED_SPACES)
def test_a_wrong_search_is_refused_with_its_key_rule_and_value(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(sections, where="")


@pytest.mark.parametrize(
    ("values", "trials"),
    [
        ({"low": 16, "high": 64, "step": 16}, 4),
        ({"low": 16, "high": 19}, 4),
        ({"choices": [8, 16, 32]}, 3),
        ({"choices": list(range(1, 9))}, 0),
    ],
)
def test_a_grid_that_the_trials_can_hold_is_accepted(values: dict[str, Any], trials: int) -> None:
    assert parse(space("train", "batch_size", values, sampler="grid", trials=trials), where="").search.trials == trials


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "grid"])
def test_two_objectives_are_accepted_without_a_pruner(sampler: str) -> None:
    values = {"low": 0.1, "high": 0.3, "step": 0.1}

    parse(space("train", "lr", values, sampler=sampler, second_objective="latency", pruner="none"), where="")
