"""MLproject: what a scheduler can call, with which settings, and what arrives of them."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from mlflow.projects.utils import load_project
from ruamel.yaml import YAML
from tests import defaults

ROOT = Path(__file__).parents[2]
ENTRIES = ("main", "search", "train", "evaluate", "promote")
STAGES = {"main": "register", "search": "search", "train": "train", "evaluate": "register"}
NASTY = ["it's", 'a "b"', "$(touch pwned)", "`touch pwned`", "x; touch pwned", "--force", "a\nb", "*", "${HOME}"]
# Stands before dvc, darkroom and python on PATH, and writes down each argument with which it was called.
RECORDER = '#!/bin/sh\nfor each in "$@"; do printf "%s\\0" "$each"; done > "$RECORD"\nexit "$CODE"\n'


@pytest.fixture(scope="module")
def project():
    return load_project(str(ROOT))


@pytest.fixture
def call(project, tmp_path, monkeypatch):
    """What dvc or python is given when an entry point is run by bash, as MLflow does, and the exit code."""
    for name in ("dvc", "darkroom", "python"):
        (tmp_path / name).write_text(RECORDER)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))

    def run(name, code=0, **parameters):
        monkeypatch.setenv("CODE", str(code))
        command = project.get_entry_point(name).compute_command(parameters, str(tmp_path))
        ended = subprocess.run(["bash", "-c", command], cwd=ROOT)
        return (tmp_path / "record").read_text().split("\0")[:-1], ended.returncode

    return run


def test_the_entry_points_are_those_a_scheduler_calls(project):
    assert tuple(project._entry_points) == ENTRIES


def test_each_parameter_stands_for_a_setting_that_there_is(project):
    settings = YAML(typ="safe").load(defaults.params())
    for name in STAGES:
        entry = project.get_entry_point(name)
        used = dict(re.findall(r"(\S+)=\{(\w+)\}", entry.command))
        assert set(used.values()) == set(entry.parameters)
        for key in used:
            section, setting = key.split(".")
            assert setting in settings[section], key


@pytest.mark.parametrize(("name", "stage"), STAGES.items())
def test_without_parameters_the_settings_stay_as_they_are(call, name, stage):
    assert call(name) == (["exp", "run", stage], 0)


def test_a_parameter_becomes_a_setting(call):
    given, _ = call("main", trials="3", dataset="mnist")
    assert given == ["exp", "run", "--set-param", "dataset.name=mnist", "--set-param", "search.trials=3", "register"]


@pytest.mark.parametrize("value", NASTY)
def test_whatever_a_parameter_holds_arrives_as_one_argument(call, value):
    given, _ = call("train", lr=value)
    assert given == ["exp", "run", "--set-param", f"train.lr={value}", "train"]
    given, _ = call("promote", version=value, reason=value)
    assert given == ["-m", "darkroom", "promote", "--reason", value, "--", value]
    assert not (ROOT / "pwned").exists()


def test_promote_takes_the_challenger_unless_told_otherwise(call):
    assert call("promote")[0] == ["-m", "darkroom", "promote", "--reason", "", "--", "challenger"]


@pytest.mark.parametrize("name", ENTRIES)
def test_a_failure_or_a_refusal_reaches_the_caller(call, name):
    assert call(name, code=3)[1] == 3
