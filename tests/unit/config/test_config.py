"""params.yaml becomes checked settings, or one sentence that says what is wrong with it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from ruamel.yaml import YAML
from tests import defaults

from darkroom.config import Config, load, parse, takes_fractions, tunable_keys
from darkroom.errors import ConfigError

SECTIONS = tuple(Config.model_fields)


def config(**sections: Any) -> Config:
    return parse(sections, where="")


def space(section: str, key: str, values: Any, **search: Any) -> dict[str, Any]:
    return {"search": {"space": {section: {key: values}}, **search}}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read_text(text: str) -> Config:
        path = tmp_path / "params.yaml"
        path.write_text(text, encoding="utf-8")
        return load(path)

    return read_text


def test_the_shipped_file_holds_the_defaults_of_every_section_but_search() -> None:
    shipped = parse(YAML(typ="safe", pure=True).load(defaults.params()), where="")

    for section in set(SECTIONS) - {"search", "recipe"}:
        for key in type(getattr(shipped, section)).model_fields:
            assert getattr(getattr(shipped, section), key) == getattr(getattr(Config(), section), key), (section, key)


def test_the_shipped_file_names_every_setting() -> None:
    tree = YAML(typ="safe", pure=True).load(defaults.params())

    assert {section: set(keys) for section, keys in tree.items()} == {
        section: set(type(getattr(Config(), section)).model_fields) for section in SECTIONS if section != "recipe"
    }


def test_every_setting_says_what_it_is() -> None:
    undocumented = [
        f"{section}.{key}"
        for section in SECTIONS
        for key, field in type(getattr(Config(), section)).model_fields.items()
        if not field.description
    ]

    assert not undocumented


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n"])
def test_an_empty_file_takes_every_default(read: Any, text: str) -> None:
    assert read(text) == Config()


def test_numbers_follow_yaml_1_2(read: Any) -> None:
    found = read("train: {lr: 1e-3, batch_size: 0o20, weight_decay: .5}")

    assert (found.train.lr, found.train.batch_size, found.train.weight_decay) == (0.001, 16, 0.5)


def test_words_stay_words_as_yaml_1_2_says(read: Any) -> None:
    assert read("dataset: {mirror: no}").dataset.mirror == "no"
    with pytest.raises(
        ConfigError, match=r"augment\.flip: unknown value 'yes'; choose from: none, random, alternating"
    ):
        read("augment: {flip: yes}")


def test_one_number_stands_for_a_list_of_one() -> None:
    found = config(model={"filters": 16, "hidden": [32, 8]})

    assert (found.model.filters, found.model.hidden) == ((16,), (32, 8))


def test_settings_cannot_be_changed_after_reading() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().train.lr = 0.5


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown section": ({"trian": {}}, r"^trian: unknown key; did you mean 'train' or 'tracking'\?"),
    "section far from any": (
        {"zzz": {}},
        r"^zzz: unknown key; choose from: recipe, dataset, preprocess, model, augment, ",
    ),
    "unknown key": ({"train": {"learning_rat": 1}}, r"^train\.learning_rat: unknown key; .*lr"),
    "misspelt key": ({"train": {"epoch": 1}}, r"^train\.epoch: unknown key; did you mean 'epochs'"),
    "number as key": ({"train": {3: 4}}, r"^train\.3: unknown key; choose from: start_from, "),
    "section without keys": ({"train": None}, r"^train: expected a section with keys below it, got None"),
    "value for a section": ({"train": 3}, r"^train: expected a section with keys below it, got 3"),
    "text for a number": ({"train": {"lr": "0.1"}}, r"^train\.lr: expected number, got '0\.1'"),
    "truth for a number": ({"train": {"epochs": True}}, r"^train\.epochs: expected integer, got True"),
    "fraction for a whole number": ({"train": {"epochs": 1.5}}, r"^train\.epochs: expected integer, got 1\.5"),
    "number for a word": (
        {"augment": {"flip": 1}},
        r"^augment\.flip: expected 'none', 'random' or 'alternating', got 1",
    ),
    "number for a name": ({"dataset": {"path": 3}}, r"^dataset\.path: expected string, got 3"),
    "empty name": ({"dataset": {"path": ""}}, r"^dataset\.path: must not be empty"),
    "text for a list": ({"model": {"filters": "16"}}, r"^model\.filters: expected a list, got '16'"),
    "empty list": ({"model": {"filters": []}}, r"^model\.filters: expected at least 1 value, got \[\]"),
    "long list": ({"model": {"hidden": [1] * 9}}, r"^model\.hidden: expected at most 8 values, got \[1, 1"),
    "list with a zero": ({"model": {"filters": [8, 0]}}, r"^model\.filters\.1: expected greater than 0, got 0"),
    "name not among the choices": (
        {"dataset": {"name": "minst"}},
        r"^dataset\.name: unknown value 'minst'; did you mean 'mnist' or 'kmnist'\? \(choose from: digits, mnist, ",
    ),
    "name like no choice": (
        {"model": {"name": "vgg"}},
        r"^model\.name: unknown value 'vgg'; choose from: mlp, simple-cnn, resnet, wide-resnet, fast-cnn, pretrained$",
    ),
    "number for a choice": (
        {"train": {"optimizer": 1}},
        r"^train\.optimizer: expected 'adam', 'adamw', 'sgd' or 'muon', got 1",
    ),
    "number not among the choices": ({"preprocess": {"channels": 2}}, r"^preprocess\.channels: expected 1 or 3, got 2"),
    "text for a number to choose": ({"preprocess": {"channels": "3"}}, r"^preprocess\.channels: .*1 or 3, got '3'$"),
    "zero where positive": ({"train": {"lr": 0}}, r"^train\.lr: expected greater than 0, got 0"),
    "below the range": ({"train": {"epochs": 0}}, r"^train\.epochs: expected greater than or equal to 1, got 0"),
    "above the range": (
        {"augment": {"translate": 65}},
        r"^augment\.translate: expected less than or equal to 64, got 65",
    ),
    "network of a thousand layers": (
        {"model": {"name": "wide-resnet", "depth": 1000}},
        r"^model\.depth: expected less than or equal to 200, got 1000",
    ),
    "at an open end": ({"model": {"dropout": 1.0}}, r"^model\.dropout: expected less than 1, got 1\.0"),
    "seed too large": ({"train": {"seed": 2**31}}, r"^train\.seed: expected less than 2147483648, got 2147483648"),
    "infinity": ({"train": {"lr": float("inf")}}, r"^train\.lr: expected a finite number, got inf"),
    "not a number": ({"train": {"lr": float("nan")}}, r"^train\.lr: expected a finite number, got nan"),
    "one side only": ({"preprocess": {"image_size": [5]}}, r"^preprocess\.image_size\.1: required, but not given"),
    "three sides": ({"preprocess": {"image_size": [5, 5, 5]}}, r"^preprocess\.image_size: expected at most 2 values"),
    "side of zero": (
        {"preprocess": {"image_size": [0, 5]}},
        r"^preprocess\.image_size: each side must be 1 to 4096 pixels, got \[0, 5\]",
    ),
    "side too long": (
        {"preprocess": {"image_size": [5, 4097]}},
        r"^preprocess\.image_size: each side .*got \[5, 4097\]",
    ),
    "all epochs for warm-up": (
        {"train": {"epochs": 5, "warmup_epochs": 5}},
        r"^train\.warmup_epochs: must be below epochs \(5\), got 5",
    ),
    "warm-up twice": (
        {"train": {"schedule": "one-cycle", "warmup_epochs": 1}},
        r"^train\.warmup_epochs: one-cycle warms up by itself; set it to 0 or choose cosine",
    ),
    "blanking twice": (
        {"augment": {"cutout": 4, "erasing": 0.5}},
        r"^augment\.cutout and erasing contradict each other: .*; set one to 0$",
    ),
    "padding without a shift": (
        {"augment": {"padding": "edge"}},
        r"^augment\.padding: edge fills what translate brings in, and that is 0; set translate$",
    ),
    "crop of nothing": (
        {"augment": {"crop_scale": [0, 1]}},
        r"^augment\.crop_scale\.0: expected greater than 0, got 0$",
    ),
    "crop of more than all": ({"augment": {"crop_scale": [0.5, 2]}}, r"^augment\.crop_scale\.1: .* equal to 1, got 2$"),
    "number for an interval": ({"augment": {"crop_scale": 0.5}}, r"^augment\.crop_scale: expected a list, got 0\.5$"),
    "interval upside down": (
        {"augment": {"crop_scale": [0.5, 0.25]}},
        r"^augment\.crop_scale: expected \[low, high\] with low not above high, got \[0\.5, 0\.25\]$",
    ),
    "ratio upside down": (
        {"augment": {"crop_scale": [0.5, 1], "crop_ratio": [2, 1]}},
        r"^augment\.crop_ratio: expected \[low, high\] with low not above high, got \[2\.0, 1\.0\]$",
    ),
    "shape without a crop": (
        {"augment": {"crop_ratio": [1, 2]}},
        r"^augment\.crop_ratio: \[1\.0, 2\.0\] is the shape of what crop_scale cuts out, .* empty; set crop_scale$",
    ),
    "more than half a turn of the hue": (
        {"augment": {"hue": 0.6}},
        r"^augment\.hue: expected less than or equal to 0\.5, got 0\.6$",
    ),
    "balance in the loss and in the sampler": (
        {"train": {"class_weights": "balanced", "sampler": "balanced"}},
        r"^train\.class_weights and sampler both balance the classes; keep one of them$",
    ),
    "alternation of images drawn with replacement": (
        {"augment": {"flip": "alternating"}, "train": {"sampler": "balanced"}},
        r"^augment\.flip: alternating needs each image once an epoch, but train\.sampler is balanced; choose random$",
    ),
    "name that the registry refuses": (
        {"tracking": {"registered_model": "team/digits"}},
        r"^tracking\.registered_model: MLflow takes no '/', ':', '@' or '\?' in it, .*; got 'team/digits'$",
    ),
    "name with both kinds of quotes": (
        {"tracking": {"registered_model": "a'b\"c"}},
        r"^tracking\.registered_model: MLflow takes .* not both kinds of quotes",
    ),
    "name that addresses cut off": (
        {"tracking": {"registered_model": "what?"}},
        r"^tracking\.registered_model: MLflow takes .*got 'what\?'$",
    ),
    "name that leads up": (
        {"tracking": {"registered_model": ".."}},
        r"^tracking\.registered_model: MLflow takes .*no '\.\.' at its beginning; got '\.\.'$",
    ),
    "name of a space": (
        {"tracking": {"registered_model": " "}},
        r"^tracking\.registered_model: expected a name of visible characters, got ' '$",
    ),
    "name with a line break": (
        {"tracking": {"experiment": "a\nb"}},
        r"^tracking\.experiment: expected a name of visible characters, got 'a\\nb'$",
    ),
    "name longer than the registry's column": (
        {"tracking": {"registered_model": "a" * 241}},
        r"^tracking\.registered_model: expected at most 240 characters, got 'a{199}…$",
    ),
    "experiment longer than its column": (
        {"tracking": {"experiment": "a" * 257}},
        r"^tracking\.experiment: expected at most 256 characters, got 'a",
    ),
    "truth for a number to choose": ({"preprocess": {"channels": True}}, r"^preprocess\.channels: .*1 or 3, got True$"),
    "fraction for a number to choose": ({"preprocess": {"channels": 1.0}}, r"^preprocess\.channels: .* 3, got 1\.0$"),
    "a thousand million filters": (
        {"model": {"filters": [10**9]}},
        r"^model\.filters\.0: expected less than or equal to 65536, got 1000000000$",
    ),
    "more units than Python numbers hold": (
        {"model": {"hidden": 10**30}},
        r"^model\.hidden\.0: expected less than or equal to 65536, got 10{30}$",
    ),
    "very long value": (
        {"train": {"optimizer": "a" * 5000}},
        r"^train\.optimizer: unknown value 'a{199}…; choose from: ",
    ),
    "very long key": ({"train": {"a" * 5000: 1}}, r"^train\.a{200}: unknown key; "),
}


@pytest.mark.parametrize(("sections", "message"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_setting_is_refused_with_its_key_rule_and_value(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(sections, where="")


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


def test_aliases_that_stand_for_little_are_read(read: Any) -> None:
    assert read("model: {filters: &sizes [8, 16], hidden: *sizes}").model.hidden == (8, 16)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "params.yaml")

    with pytest.raises(ConfigError, match=r"params\.yaml: not a file$"):
        load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("photos/o'hare", "darkroom-o'hare"),
        ("""photos/o'hare "new".zip""", "darkroom-o'hare -new-"),
        ("photos/2024:a@b?", "darkroom-2024-a-b-"),
        ("photos/\x1b[2J", "darkroom-\\x1b[2J"),
        ("photos/" + "a" * 255, "darkroom-" + "a" * 231),
    ],
)
def test_a_folder_gives_the_model_a_name_that_the_registry_takes(path: str, name: str) -> None:
    found = config(dataset={"name": "folder", "path": path}).registered_model

    assert found == name
    assert config(tracking={"registered_model": found}).registered_model == found


def test_of_very_many_mistakes_the_first_are_told(read: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="k0") as caught:
        read("train: {" + ", ".join(f"k{number}: 1" for number in range(500)) + "}")

    *told, last = caught.value.lines
    assert len(told) == 19
    assert last == f"{tmp_path / 'params.yaml'}: 481 more mistakes"


def test_every_wrong_setting_has_a_line_of_its_own(read: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="epochs") as caught:
        read("train: {epochs: 0, lr: -1}\naugment: {flips: true}")

    lines = str(caught.value).splitlines()
    path = tmp_path / "params.yaml"
    assert [line.split(": ")[:2] for line in lines] == [
        [str(path), "augment.flips"],
        [str(path), "train.epochs"],
        [str(path), "train.lr"],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train:\n  lr: 1: 2", r"params\.yaml, line 2: not valid YAML: mapping values are not allowed here"),
        ("train:\n\tlr: 1", r"line 2: not valid YAML: found character '\\t' that cannot start any token"),
        ("train: {lr: 1, lr: 2}", r'line 1: not valid YAML: found duplicate key "lr"'),
        ("train: *other", r"line 1: not valid YAML: found undefined alias 'other'"),
        ("--- {}\n--- {}", r"line 2: not valid YAML: but found another document"),
        ("train: {lr: \x00}", r"not valid YAML: unacceptable character #x0000"),
        ("tracking: {experiment: 2001-99-99}", r"not valid YAML: month must be in 1\.\.12"),
        ("train: !!python/object:os.system {}", r"not valid YAML: could not determine a constructor for the tag"),
        ("train: " + "[" * 21, r"line 1: not valid YAML: nested more than 20 levels deep$"),
        ("train: {seed: 0x" + "f" * 5000 + "}", r"line 1: not valid YAML: whole number of over 40 digits: '0xf*…$"),
        ("train: {seed: " + "9" * 5000 + "}", r"line 1: not valid YAML: whole number of over 40 digits: '9*…$"),
        (
            "a: &a [" + "1," * 100 + "]\nb: [" + "*a," * 1000 + "]",
            "not valid YAML: its aliases expand to too many values",
        ),
        (
            "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 30)),
            r"aliases expand to too many values",
        ),
        (f"a: &a {'x' * 9000}\nb: [*a, *a, *a, *a, *a, *a, *a, *a]", r"line 1: .*aliases expand to too many values"),
        ("a: [" + "1," * 3000 + "]", r"line 1: not valid YAML: more than 3,000 values, which no settings need$"),
        ("#" * 70_000, r"params\.yaml: more than 64 KiB, which no settings need$"),
        ("train: {seed: 0x_}", r"not valid YAML: invalid literal"),
        ("train: !!bool x", r"not valid YAML: a value that does not fit its tag"),
        ("- train\n- search", r"expected sections such as `dataset:` and `train:`, got a list"),
        ("train", r"expected sections such as `dataset:` and `train:`, got a str"),
    ],
)
def test_text_that_holds_no_sections_is_refused(read: Any, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(text)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: not found; run this in the project's root"):
        load(tmp_path / "nowhere.yaml")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


def test_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes("tracking: {experiment: Größe}".encode("latin-1"))

    with pytest.raises(ConfigError, match=r"params\.yaml: not UTF-8 .*; save it as UTF-8"):
        load(path)


def test_given_settings_take_precedence_over_the_file_and_its_defaults() -> None:
    written = config(train={"lr": 0.5, "epochs": 7}, model={"filters": [4]})

    found = written.with_settings({"train.lr": 0.25, "model.filters": [8, 16], "augment.flip": "random"})

    changed = {key: value for key, value in found.flat().items() if value != Config().flat()[key]}
    assert changed == {"train.lr": 0.25, "train.epochs": 7, "model.filters": [8, 16], "augment.flip": "random"}
    assert written.train.lr == 0.5


def test_given_settings_are_checked_like_written_ones() -> None:
    with pytest.raises(ConfigError, match=r"^train\.lr: expected greater than 0, got -1"):
        Config().with_settings({"train.lr": -1})
    with pytest.raises(ConfigError, match=r"^train\.warmup_epochs: must be below epochs \(2\), got 2"):
        Config().with_settings({"train.epochs": 2, "train.warmup_epochs": 2})


@pytest.mark.parametrize("key", ["train.rate", "optimizer.lr", "lr"])
def test_a_given_setting_that_does_not_exist_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        Config().with_settings({key: 1})


def test_a_space_is_listed_by_section_and_setting() -> None:
    found = config(**space("train", "lr", {"low": 0.1, "high": 1}), model={"dropout": 0.1})

    assert list(found.search.space.flat()) == ["train.lr"]


@pytest.mark.parametrize("step", [0.1, 0.05, 0.25])
def test_a_step_divides_its_interval_as_it_is_written_in_decimals(step: float) -> None:
    found = config(**space("model", "dropout", {"low": 0.0, "high": 0.5, "step": step}))

    assert found.search.space.model["dropout"].step == step


def test_every_searchable_setting_exists_and_none_decides_what_is_compared() -> None:
    assert set(tunable_keys()) <= set(Config().flat())
    assert not {"train.epochs", "train.monitor", "train.seed", "model.name"} & set(tunable_keys())


def test_fractions_are_taken_where_the_default_or_its_range_is_one() -> None:
    fractional = {key for key in tunable_keys() if takes_fractions(key)}

    assert fractional == {
        "model.dropout",
        "model.layer_lr_decay",
        *(
            f"augment.{key}"
            for key in ("rotate", "scale", "shear", "brightness", "contrast", "saturation", "hue", "blur")
        ),
        *(f"augment.{key}" for key in ("erasing", "mixup", "cutmix")),
        "train.lr",
        "train.bias_lr",
        "train.head_lr",
        "train.momentum",
        "train.weight_decay",
        "train.label_smoothing",
        "train.clip_norm",
        "train.ema",
    }


@pytest.mark.parametrize(
    ("sections", "name"),
    [
        ({}, "darkroom-digits"),
        ({"dataset": {"name": "cifar10"}}, "darkroom-cifar10"),
        ({"dataset": {"name": "folder", "path": "data/flowers"}}, "darkroom-flowers"),
        ({"dataset": {"name": "folder", "path": "/data/flowers.zip"}}, "darkroom-flowers"),
        ({"dataset": {"name": "folder", "path": "flowers.tar.gz"}}, "darkroom-flowers"),
        ({"dataset": {"name": "folder", "path": "flowers-v1.2"}}, "darkroom-flowers-v1.2"),
        ({"dataset": {"name": "folder", "path": "."}}, "darkroom-folder"),
        ({"dataset": {"name": "folder", "path": "a:b"}}, "darkroom-a-b"),
        ({"tracking": {"registered_model": "mine"}}, "mine"),
    ],
)
def test_models_are_registered_under_a_name_for_each_dataset(sections: dict[str, Any], name: str) -> None:
    assert config(**sections).registered_model == name


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JUNK = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3))
KEYS = st.sampled_from([*SECTIONS, *{key.split(".")[1] for key in Config().flat()}]) | st.text(max_size=8)
RANGES = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("low", "high", "log", "step", "choices"), JUNK) | {"hihg": SCALARS}
)
SPACES = st.dictionaries(
    st.sampled_from(["model", "train", "augment"]),
    st.dictionaries(st.sampled_from([key.split(".")[1] for key in tunable_keys()]), RANGES, max_size=3),
)


def answers(question: Callable[[], Config]) -> bool:
    """Whether the outcome is settings or a sentence; any other exception passes through and fails the test."""
    try:
        return isinstance(question(), Config)
    except ConfigError as problem:
        return bool(str(problem))


@given(st.dictionaries(KEYS, SCALARS | st.dictionaries(KEYS, JUNK, max_size=4), max_size=4))
@settings(max_examples=150, deadline=None)
def test_junk_is_parsed_or_refused(tree: dict[str, Any]) -> None:
    assert answers(lambda: parse(tree, where=""))


@given(SPACES)
@settings(max_examples=50, deadline=None)  # a space takes four times as long to make as another tree
def test_a_junk_space_is_parsed_or_refused(junk: dict[str, Any]) -> None:
    assert answers(lambda: parse({"search": {"space": junk}}, where=""))


@given(st.text(max_size=40) | st.text("abc:{}[]-*&!'\"#%>|\n 019.", max_size=40))
@settings(max_examples=150, deadline=None)
def test_junk_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.yaml"
    path.write_text(text, encoding="utf-8")
    assert answers(lambda: load(path))


@pytest.mark.parametrize("name", ["gbk", "shift_jis", "UTF-8", "cp437"])
def test_any_codec_of_python_reads_names(read, name):
    assert read(f"dataset: {{encoding: {name}}}").dataset.encoding == name


@pytest.mark.parametrize("name", ["gkb", "base64", "rot13", "utf-16", "cp037", "undefined"])
def test_what_is_no_codec_of_names_is_refused(read, name):
    with pytest.raises(ConfigError, match=rf": dataset\.encoding: no encoding of names '{name}'; "):
        read(f"dataset: {{encoding: {name}}}")
