"""What is said of the model in the working tree is what this store knows of it, whatever files DVC brought."""

import json
import shutil

import pytest
from tests.conftest import QUICK
from tests.stages import run_stages

from darkroom.promotion.working_tree import version_of, working_tree_digest
from darkroom.workspace import Workspace

NAME = "darkroom-digits"

HINT = (
    "`dvc repro` trains and registers a model (if it has nothing to do: `darkroom register` registers "
    "models/model.safetensors)"
)


@pytest.fixture
def other(registered, evaluated, project):
    """A second model in the working tree, evaluated; gives the client of the store, in which the first is version 1."""
    project(**QUICK, train__seed=5)
    run_stages(evaluated, "train", "evaluate")
    return registered[0]


def test_a_model_that_dvc_restored_is_not_taken_for_a_version_of_this_store(other, darkroom):
    code, output, messages = darkroom("results")
    assert code == 0
    assert "Registered as" not in output
    assert messages.splitlines()[-1].startswith("warning: models/model.safetensors: not registered in sqlite:///")
    assert messages.endswith("mlflow.db; `darkroom register` registers it\n")
    assert json.loads(darkroom("results", "--json")[1])["registered"] is None


def test_the_advice_registers_it_as_the_challenger(other, darkroom):
    assert darkroom("register")[0] == 0
    assert f"Registered as {NAME} version 2 (challenger)." in darkroom("results")[1]
    found = json.loads(darkroom("results", "--json")[1])
    assert found["registered"] == {"name": NAME, "version": "2", "aliases": ["challenger"]}
    assert found["metrics"]["images"] == 360


def test_a_store_that_is_not_there_is_told_with_the_command_that_makes_it(evaluated, darkroom):
    (evaluated / "mlflow.db").unlink()
    assert "not registered in sqlite:///" in darkroom("results")[2]
    assert not (evaluated / "mlflow.db").exists()
    for command in (("predict", "params.yaml"), ("serve",), ("export", "--format", "onnx", "--model", "champion")):
        code, _, messages = darkroom(*command)
        assert (code, messages.count("\n")) == (2, 1)
        assert messages.endswith(f"mlflow.db; {HINT}\n")
    assert HINT in darkroom("models")[1].replace("\n", " ")


def test_a_project_without_a_model_is_sent_to_the_pipeline(project, darkroom):
    (project() / "mlflow.db").unlink()
    assert darkroom("predict", "params.yaml")[2].endswith("mlflow.db; `dvc repro` trains and registers a model\n")


def test_promoting_here_judges_the_model_in_the_working_tree_and_no_other(other, darkroom):
    refused = darkroom("promote", "here")
    assert refused[0] == 2
    assert refused[2].startswith(f"error: models/model.safetensors: not registered as {NAME} in this store (sqlite:///")
    darkroom("register")
    other.set_registered_model_alias(NAME, "challenger", "1")  # another training was registered meanwhile
    assert "version 2, against version 1" in darkroom("promote", "here", "--dry-run")[1]


def test_promoting_the_challenger_tells_that_it_is_another_model(other, darkroom):
    warning = f"warning: {NAME} version 1 is not the model in the working tree, which is not registered: `darkroom"
    assert warning in darkroom("promote", "--dry-run")[2]
    darkroom("register")
    other.set_registered_model_alias(NAME, "challenger", "1")
    assert "which is version 2: `darkroom promote here`" in darkroom("promote", "--dry-run")[2]
    assert "working tree" not in darkroom("promote", "--dry-run", "2")[2]


def test_changed_weights_are_no_version(registered, evaluated, darkroom):
    weights = evaluated / "models" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    for command in (("results",), ("promote", "here")):
        code, _, messages = darkroom(*command)
        assert code == 2
        assert "not the weights that models/model.json describes, or damaged; run `darkroom train` again" in messages


def test_the_same_weights_in_several_versions_are_the_one_that_an_alias_names(registered, darkroom, evaluated):
    client, version = registered
    client.create_model_version(NAME, str(version.source), version.run_id, tags=version.tags)
    assert "version 1 (challenger, champion)" in darkroom("results")[1]
    for alias in ("challenger", "champion"):
        client.delete_registered_model_alias(NAME, alias)
    # Without an alias it is the newest; the history brings the champion's back.
    assert str(version_of(client, NAME, working_tree_digest(Workspace())).version) == "2"
    shutil.rmtree(evaluated / "mlruns")  # of no matter for what the registry says
    assert "version 1 (champion)" in darkroom("results")[1]


def test_an_alias_that_was_moved_by_hand_makes_no_champion(darkroom, registered):
    client, version = registered
    client.delete_registered_model_alias(NAME, "champion")
    _, output, messages = darkroom("results")

    assert f"Registered as {NAME} version {version.version} (challenger, champion)." in output
    assert (
        "the alias champion named no version, but entry 1 of the history says version 1, which it names now" in messages
    )
