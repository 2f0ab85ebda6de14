"""The registry: one version for the same weights, one champion."""

import pytest

from darkroom.errors import TrackingError
from darkroom.promotion.registry import champion, register, versions
from darkroom.settings import Tracking
from darkroom.tracking.tracker import connect
from darkroom.workspace import Workspace

NAME = "a-model"


@pytest.fixture
def client(project):
    project()
    return connect(Tracking(), Workspace().spools).client


@pytest.fixture
def add(client, tmp_path):
    """Register a model with the given weights."""

    def add(weights, accuracy=0.9):
        run = client.create_run("0")
        return register(
            client, NAME, run_id=run.info.run_id, model_uri=str(tmp_path),
            digests={"darkroom.weights_sha256": weights}, metrics={"test.accuracy": accuracy},
        )  # fmt: skip

    return add


def test_the_first_version_is_challenger_and_champion(add):
    first = add("a")
    assert (first.version, first.aliases, first.is_new) == ("1", ("challenger", "champion"), True)


def test_a_later_version_is_only_challenger(add, client):
    add("a")
    second = add("b")
    assert (second.version, second.aliases, second.is_new) == ("2", ("challenger",), True)
    assert str(champion(client, NAME).version) == "1"


def test_the_same_weights_keep_their_version_and_become_challenger_again(add, client):
    add("a", accuracy=0.9)
    add("b")
    again = add("a", accuracy=0.8)
    assert (again.version, again.aliases, again.is_new) == ("1", ("challenger", "champion"), False)
    found = versions(client, NAME)
    assert [str(version.version) for version in found] == ["2", "1"]
    assert found[1].tags["test.accuracy"] == "0.8"


def test_a_registry_without_a_champion_is_refused(add, client):
    with pytest.raises(TrackingError, match="'a-model' has no champion; run `dvc repro`"):
        champion(client, NAME)
    add("a")
    client.delete_registered_model_alias(NAME, "champion")
    with pytest.raises(TrackingError, match="'a-model' has no champion; run `dvc repro`"):
        champion(client, NAME)


def test_a_name_that_is_not_registered_has_no_versions(client):
    assert versions(client, "nothing") == []
