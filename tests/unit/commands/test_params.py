"""params.yaml and its schema are made from the settings, and what a person has set in params.yaml stays."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from tests import defaults

from darkroom.commands.params.__main__ import main
from darkroom.commands.params.schema import schema
from darkroom.commands.params.template import render
from darkroom.config import Config, load, parse
from darkroom.errors import ConfigError

STALE = "out of date; run `make params`"
VALIDATOR = Draft202012Validator(schema())


def read(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


# --- the file ----------------------------------------------------------------------------------------


def test_a_file_of_defaults_is_every_setting_with_its_description() -> None:
    text = render({})

    assert parse(read(text), where="") == Config()
    explained = dict(re.findall(r"^(\w+):\n((?:  .+\n)+)", text, re.MULTILINE))
    assert list(explained) == [section for section in Config.model_fields if section != "recipe"]
    for section, lines in explained.items():
        fields = type(getattr(Config(), section)).model_fields
        assert re.findall(r"^  (\w+):.*  # (.+)$", lines, re.MULTILINE) == [
            (key, field.description) for key, field in fields.items()
        ]
    assert max(map(len, text.splitlines())) <= 120


def test_the_file_names_its_schema_first_for_editors() -> None:
    first = render({}).partition("\n")[0]

    assert first == "# yaml-language-server: $schema=params.schema.json"
    assert (defaults.ROOT / "params.schema.json").is_file()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"train": {"lr": 1e-5}}, "  lr: 1e-05               # peak learning rate"),
        (
            {"train": {"clip_norm": None}},
            "  clip_norm:              # largest norm of the gradient; empty: no clipping",
        ),
        ({"model": {"freeze_norm_scale": True}}, "  freeze_norm_scale: true  # fast-cnn: true keeps the scales of the"),
        ({"model": {"hidden": 64}}, "  hidden: 64              # units of each dense layer"),
        ({"dataset": {"path": "/a b/c: d # e"}}, '  path: "/a b/c: d # e"   # folder only'),
        ({"dataset": {"path": "12"}}, '  path: "12"              # folder only'),
        ({"dataset": {"path": "true"}}, "  path: 'true'            # folder only"),
        ({"serve": {"trusted_proxies": ["::1"]}}, '  trusted_proxies: ["::1"]  # addresses'),
        ({"search": {"space": {"train": {"lr": {"choices": [1, 0.5]}}}}}, "      lr: {choices: [1, 0.5]}"),
        ({"search": {"space": {"train": {}}}}, "  space: {}               # any key of model"),
    ],
)
def test_a_value_is_written_in_one_line_and_read_back(settings: dict[str, Any], line: str) -> None:
    text = render(settings)

    assert [each for each in text.splitlines() if each.startswith(line)]
    assert parse(read(text), where="") == parse(settings, where="")


# --- the schema --------------------------------------------------------------------------------------


def test_the_schema_is_that_of_the_settings() -> None:
    written = json.loads((defaults.ROOT / "params.schema.json").read_text(encoding="utf-8"))

    assert written == schema(), f"params.schema.json: {STALE}"
    Draft202012Validator.check_schema(written)


@pytest.mark.parametrize("path", defaults.recipes(), ids=lambda path: path.stem)
def test_the_schema_takes_each_recipe_short_and_complete(path: Path) -> None:
    settings = read(path.read_text(encoding="utf-8"))

    VALIDATOR.validate(settings)
    VALIDATOR.validate(read(render(settings)))


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"hidden": None, "filters": 32, "dropout": 0}},
        {"model": {"hidden": [64, 32]}},
        {"preprocess": {"image_size": [32, 32], "channels": 3, "value_range": [0, 4095.5], "bands": None}},
        {"train": {"start_from": 3, "class_weights": "balanced"}},
        {"train": {"start_from": "champion"}},
        {"search": {"fuse": "off", "workers": 4, "space": {"model": {"filters": {"choices": [[32], [64, 64]]}}}}},
        {"search": {"space": {"train": {"batch_size": {"low": 32, "high": 128, "step": 32}, "lr": {"choices": [1]}}}}},
        {"serve": {"trusted_hosts": ["a.example"], "root_path": "/models"}},
        {"recipe": {"name": "mine"}},
    ],
)
def test_the_schema_takes_what_darkroom_takes(settings: dict[str, Any]) -> None:
    parse(settings, where="")
    VALIDATOR.validate(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"trian": {}},
        {"train": {"epoch": 3}},
        {"train": {"epochs": None}},
        {"train": {"epochs": "many"}},
        {"train": {"epochs": 0}},
        {"train": {"optimizer": "adamm"}},
        {"model": {"hidden": [0]}},
        {"model": {"hidden": [1] * 9}},
        {"preprocess": {"channels": 2}},
        {"preprocess": {"value_range": [0, "white"]}},
        {"search": {"fuse": "on"}},
        {"search": {"workers": 0}},
        {"search": {"space": None}},
        {"search": {"space": {"serve": {}}}},
        {"search": {"space": {"train": {"epochs": {"choices": [1, 2]}}}}},
        {"search": {"space": {"train": {"lrr": {"low": 1, "high": 2}}}}},
        {"search": {"space": {"train": {"lr": {"low": 0.1}}}}},
        {"search": {"space": {"train": {"lr": {"low": 0.1, "high": 1, "step": 0}}}}},
        {"search": {"space": {"train": {"lr": {"low": 0.1, "high": 1, "choices": [1]}}}}},
        {"search": {"space": {"train": {"lr": {"choices": []}}}}},
    ],
)
def test_the_schema_refuses_what_darkroom_refuses(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        parse(settings, where="")
    assert not VALIDATOR.is_valid(settings)


# --- `make params` -----------------------------------------------------------------------------------


def test_writing_params_yaml_anew_keeps_what_is_set_and_adds_what_is_missing(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project()
    (root / "params.yaml").write_text("# mine\nmodel: {hidden: 64}\ntrain:\n  lr: 1e-5 # tried\n  epochs: 7\n", "utf-8")
    before = load(root / "params.yaml")

    main()

    assert load(root / "params.yaml") == before
    assert (root / "params.yaml").read_text() == render({"model": {"hidden": 64}, "train": {"lr": 1e-5, "epochs": 7}})
    assert json.loads((root / "params.schema.json").read_text()) == schema()
    main()
    assert load(root / "params.yaml") == before


def test_params_yaml_that_is_not_valid_stays_as_it_is(
    project: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = project()
    (root / "params.yaml").write_text("train: {epoch: 3}\n")

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert "error: params.yaml: train.epoch: unknown key; did you mean 'epochs'" in capsys.readouterr().err
    assert (root / "params.yaml").read_text() == "train: {epoch: 3}\n"
    assert not (root / "params.schema.json").exists()
