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
from tests.unit.config.spaces import space

from darkroom.config import Config, load, parse, takes_fractions, tunable_keys
from darkroom.errors import ConfigError

SECTIONS = tuple(Config.model_fields)


def config(**sections: Any) -> Config:
    return parse(sections, where="")


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


@pytest.mark.parametrize("key", ["path", "labels"])
def test_a_name_that_is_taken_for_the_home_of_an_unknown_user_is_refused(read: Any, key: str) -> None:
    with pytest.raises(
        ConfigError, match=rf": dataset\.{key}: '~no-such-user' begins with ~, but is the home of no user"
    ):
        read(f"dataset: {{{key}: ~no-such-user}}")


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
