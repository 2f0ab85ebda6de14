"""The registry: one version for the same model, and what a reference to one means."""

import shutil
from functools import partial

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, PERMISSION_DENIED

from darkroom.config.settings import Tracking
from darkroom.errors import TrackingError
from darkroom.promotion.registry import REGISTERED_BY_TAG, champion, find, register, set_tags, versions, with_weights
from darkroom.tracking.environment import user
from darkroom.tracking.tracker import connect
from darkroom.workspace import Workspace

NAME = "a-model"


def register_model(client, weights, accuracy=0.9, *, name=NAME, place=None):
    """Register a model with the given weights, which lies at a place of its own."""
    run = client.create_run("0")
    return register(
        client, name, run_id=run.info.run_id, model_uri=f"/nowhere/{place or weights}",
        digests={"darkroom.weights_sha256": weights}, metrics={"test.accuracy": accuracy},
        result=f"Test accuracy {accuracy}",
    )  # fmt: skip


@pytest.fixture
def client(project):
    project()
    return connect(Tracking(), Workspace().spools).client


@pytest.fixture
def add(client):
    return partial(register_model, client)


# --- registering -------------------------------------------------------------------------------------------


def test_every_version_is_registered_as_challenger_alone(add):
    for weights, number in (("a", "1"), ("b", "2")):
        registered = add(weights)
        assert (registered.version, registered.aliases, registered.is_new) == (number, ("challenger",), True)


@pytest.fixture
def refuse_once(client, monkeypatch):
    """Let another process be quicker with what the client's ``method`` sets: MLflow then refuses ours."""

    def refuse_once(method, code):
        really, called = getattr(client, method), []

        def beaten(*arguments):
            called.append(arguments)
            if len(called) > 1:
                return really(*arguments)
            really(*arguments[:-1], "1")
            raise MlflowException("UNIQUE constraint failed", code)

        monkeypatch.setattr(client, method, beaten)

    return refuse_once


def test_a_tag_that_another_process_makes_at_once_is_set_all_the_same(add, client, refuse_once):
    version = add("a").version
    refuse_once("set_model_version_tag", BAD_REQUEST)
    set_tags(client, NAME, version, {"gate.verdict": "passed", "gate.loss": "0.1"})
    found = client.get_model_version(NAME, version).tags
    assert (found["gate.verdict"], found["gate.loss"]) == ("passed", "0.1")


def test_the_alias_of_a_challenger_that_another_process_makes_at_once_is_moved(add, client, refuse_once):
    add("a")
    client.delete_registered_model_alias(NAME, "challenger")
    refuse_once("set_registered_model_alias", BAD_REQUEST)
    assert add("b").aliases == ("challenger",)
    assert str(client.get_model_version_by_alias(NAME, "challenger").version) == "2"


def test_a_tag_that_is_refused_for_another_reason_is_not_tried_again(add, client, refuse_once):
    version = add("a").version
    refuse_once("set_model_version_tag", PERMISSION_DENIED)
    with pytest.raises(MlflowException):
        set_tags(client, NAME, version, {"gate.verdict": "passed"})
    assert client.get_model_version(NAME, version).tags["gate.verdict"] == "1"


def test_a_registration_leaves_the_champion_alone(add, client):
    add("a")
    client.set_registered_model_alias(NAME, "champion", "1")
    add("b")
    assert str(champion(client, NAME).version) == "1"


def test_the_same_model_keeps_its_version_and_becomes_challenger_again(add, client):
    add("a", accuracy=0.9)
    client.set_registered_model_alias(NAME, "champion", "1")
    add("b")
    again = add("a", accuracy=0.8)
    assert (again.version, again.aliases, again.is_new) == ("1", ("challenger", "champion"), False)
    found = versions(client, NAME)
    assert [str(version.version) for version in found] == ["2", "1"]
    assert found[1].tags["test.accuracy"] == "0.8"


def test_the_same_weights_logged_anew_get_a_version_of_their_own(add, client):
    add("a")
    add("b")
    assert add("a", place="rebuilt").version == "3"
    assert [str(version.version) for version in with_weights(client, NAME, "a")] == ["1", "3"]


def test_a_version_says_who_registered_it(add, client):
    add("a")
    assert client.get_model_version(NAME, "1").tags[REGISTERED_BY_TAG] == user()


def test_a_name_with_a_quote_is_a_name_like_any_other(add, client):
    name = "darkroom-o'hare"
    add("a", name=name)
    assert not add("a", name=name).is_new
    assert [str(version.version) for version in versions(client, name)] == ["1"]


def test_a_registry_without_a_champion_is_refused(add, client):
    with pytest.raises(TrackingError, match=r"'a-model' has no champion; `dvc repro` .* `darkroom promote` makes"):
        champion(client, NAME)
    add("a")
    with pytest.raises(TrackingError, match=r"'a-model' has no champion; `dvc repro` .* `darkroom promote` makes"):
        champion(client, NAME)


def test_a_name_that_is_not_registered_has_no_versions(client):
    assert versions(client, "nothing") == []


# --- finding -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three(tmp_path_factory, empty_store):
    """The client of a store with three versions: 1 is champion, 2 has no alias, 3 is challenger. To be read only."""
    path = tmp_path_factory.mktemp("three") / "mlflow.db"
    shutil.copyfile(empty_store, path)
    client = MlflowClient(f"sqlite:///{path}")
    for weights in ("a", "b", "c"):
        register_model(client, weights)
    client.set_registered_model_alias(NAME, "champion", "1")
    register_model(client, "d", name="other")
    return client


@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("2", "2"),
        ("champion", "1"),
        ("challenger", "3"),
        (f"models:/{NAME}/2", "2"),
        (f"{NAME}/2", "2"),
        (f"models:/{NAME}@champion", "1"),
        (f"{NAME}@challenger", "3"),
    ],
)
def test_a_version_is_found_by_its_number_its_alias_and_mlflows_names(three, reference, version):
    found = find(three, NAME, reference)
    registered = three.get_model_version(NAME, version)
    assert (found.version, found.run_id, found.uri) == (version, registered.run_id, f"models:/{NAME}/{version}")
    assert found.tags == registered.tags
    assert found.aliases == tuple(registered.aliases)
    assert str(found) == f"version {version}"


@pytest.mark.parametrize("reference", ["models:/other/1", "other/1", "other@champion", "models:/other@champion"])
def test_a_version_of_another_registered_model_is_refused(three, reference):
    with pytest.raises(TrackingError, match=r"of the registered model other, but params\.yaml names a-model"):
        find(three, NAME, reference)


@pytest.mark.parametrize("reference", ["4", "0", "previous", "champoin", "a b", f"{NAME}/9", "runs:/x/model", ""])
def test_what_is_no_version_or_alias_is_refused_with_those_there_are(three, reference):
    with pytest.raises(TrackingError, match="choose from: 3, 2, 1, challenger, champion, or give the id of a run"):
        find(three, NAME, reference)


def test_a_registry_without_versions_says_how_to_get_one(client):
    with pytest.raises(TrackingError, match="holds no versions of a-model; `dvc repro` trains and registers a model"):
        find(client, NAME, "challenger")


def test_a_run_that_the_store_lacks_is_refused(client):
    with pytest.raises(TrackingError, match=r"run 0{32}: not in the MLflow store; .*MLFLOW_TRACKING_URI selects"):
        find(client, NAME, "0" * 32)


def test_a_run_that_made_no_model_is_refused(client):
    run_id = client.create_run("0").info.run_id
    with pytest.raises(TrackingError, match=f"run {run_id}: made no model that was evaluated"):
        find(client, NAME, run_id)


@pytest.mark.parametrize("reference", ["1", "champion", "0" * 32])
def test_a_store_that_does_not_answer_is_not_taken_for_one_without_the_model(client, monkeypatch, reference):
    def away(*arguments):
        raise MlflowException("API request failed: Max retries exceeded")

    for method in ("get_model_version", "get_model_version_by_alias", "get_run"):
        monkeypatch.setattr(client, method, away)
    with pytest.raises(MlflowException, match="Max retries exceeded"):
        find(client, NAME, reference)
