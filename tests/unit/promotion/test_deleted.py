"""What was deleted in MLflow, an experiment or a registered model, stops only what needs it."""

import re
import shlex

import pytest
from click.testing import CliRunner
from mlflow.cli import cli as mlflow_cli

from darkroom.promotion.history import History, effective
from darkroom.promotion.registry import champion

NAME = "darkroom-digits"


@pytest.fixture
def picture(evaluated):
    return str(next((evaluated / "reports" / "evaluate").rglob("*.png")))


@pytest.mark.parametrize(
    "command",
    [("models",), ("history",), ("predict",), ("results",), ("data-diff",), ("promote", "1"),
     ("export", "--format", "safetensors", "--model", "champion")],
    ids=lambda command: command[0],
)  # fmt: skip
def test_without_its_experiment_a_registry_can_be_asked(registered, darkroom, picture, command):
    client, _ = registered
    client.delete_experiment(client.get_experiment_by_name("darkroom").experiment_id)

    code, _, messages = darkroom(*command, *([picture] if command == ("predict",) else []))

    assert (code, "deleted" in messages) == (0, False), messages
    assert client.get_experiment_by_name("darkroom").lifecycle_stage == "deleted"


@pytest.mark.parametrize("command", ["train", "register"])
def test_a_run_that_cannot_be_written_is_refused_with_the_command_that_helps(
    registered, darkroom, monkeypatch, command
):
    client, _ = registered
    client.delete_experiment(client.get_experiment_by_name("darkroom").experiment_id)

    code, _, messages = darkroom(command)

    assert code == 2
    found = re.fullmatch(r"error: MLflow experiment 'darkroom' is deleted; `(.*?)` restores it, or .*\n", messages)
    address, *arguments = shlex.split(found[1])
    monkeypatch.setenv(*address.split("=", 1))
    assert arguments[0] == "mlflow"
    assert CliRunner().invoke(mlflow_cli, arguments[1:]).exit_code == 0
    assert client.get_experiment_by_name("darkroom").lifecycle_stage == "active"


@pytest.mark.parametrize("command", [("predict",), ("promote", "1"), ("data-diff",)], ids=lambda command: command[0])
def test_a_registered_model_that_was_deleted_is_told_as_that(registered, darkroom, picture, command):
    client, _ = registered
    client.delete_registered_model(NAME)

    code, _, messages = darkroom(*command, *([picture] if command == ("predict",) else []))

    assert code == 2
    assert messages.endswith(
        f"registered model '{NAME}' was deleted, while its history is still there (`darkroom history` shows it); "
        "`dvc repro` trains and registers a model (if it has nothing to do: `darkroom register` registers "
        "models/model.safetensors) as version 1\n"
    )


def test_the_history_of_a_deleted_model_is_shown_and_counts_no_more(registered, darkroom):
    client, _ = registered
    client.delete_registered_model(NAME)

    code, listed, messages = darkroom("models")
    assert (code, messages) == (0, "")
    assert "was deleted, while its history is still there" in " ".join(listed.split())
    code, shown, messages = darkroom("history")
    assert (code, messages) == (0, "")
    assert "(of a model" in shown

    assert darkroom("register")[0] == 0
    assert champion(client, NAME).version in (1, "1")
    entries = History(client, NAME).read()
    assert [(entry.number, entry.is_of_deleted) for entry in entries] == [(1, True), (2, False)]
    assert [entry.number for entry in effective(entries)] == [2]


def test_other_weights_under_the_number_of_a_deleted_version_are_no_mixed_up_registry(registered, darkroom):
    client, version = registered
    client.delete_registered_model(NAME)
    client.create_registered_model(NAME)
    client.create_model_version(NAME, version.source, version.run_id, tags={"darkroom.weights_sha256": "0" * 64})

    for command in ("models", "history"):
        code, _, messages = darkroom(command)
        assert (code, messages) == (0, "")
