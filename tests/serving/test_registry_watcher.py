"""Whoever is champion in the registry answers; whatever goes wrong, the one before goes on."""

import shutil

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from darkroom.errors import TrackingError
from darkroom.promotion.registry import CHALLENGER, CHAMPION, PREVIOUS, VERDICT_TAG
from darkroom.serving import registry_watcher as watcher_module
from darkroom.serving.registry_watcher import RegistryWatcher

NAME = "a-model"


class Audience:
    """Remembers what it is told."""

    def __init__(self):
        self.champion = self.since = self.challenger = self.verdict = self.trouble = None
        self.served = []
        self.registry = None

    def serve(self, champion, since):
        self.champion, self.since = champion, since
        self.served.append(champion)

    def show_challenger(self, challenger, verdict):
        self.challenger, self.verdict = challenger, verdict

    def report_problem(self, trouble):
        self.trouble = trouble

    def note_registry(self, *, answers):
        self.registry = answers


@pytest.fixture
def audience():
    return Audience()


@pytest.fixture
def loads():
    """The versions that were loaded, in order; of those in ``broken`` loading fails."""

    class Loads(list):
        broken = frozenset()

        def __call__(self, version: ModelVersion) -> str:
            self.append(str(version.version))
            if str(version.version) in self.broken:
                raise RuntimeError("half a file\nand more")
            return f"model {version.version}"

    return Loads()


@pytest.fixture(scope="module")
def four_versions(tmp_path_factory, empty_store):
    """The database of a registry with four versions of a model, the first of which is champion."""
    path = shutil.copyfile(empty_store, tmp_path_factory.mktemp("registry") / "mlflow.db")
    client = MlflowClient(f"sqlite:///{path}")
    client.create_registered_model(NAME)
    for _ in range(4):
        client.create_model_version(NAME, "file:///nowhere")
    client.set_registered_model_alias(NAME, CHAMPION, "1")
    return path


@pytest.fixture
def client(four_versions, tmp_path):
    return MlflowClient(f"sqlite:///{shutil.copyfile(four_versions, tmp_path / 'mlflow.db')}")


@pytest.fixture
def point(client):
    return lambda alias, version: client.set_registered_model_alias(NAME, alias, str(version))


@pytest.fixture
def watcher(client, loads, audience):
    made = RegistryWatcher(client, NAME, loads, audience)
    made.begin()
    return made


def test_the_champion_is_loaded_before_anything_is_answered(watcher, audience):
    assert audience.champion == "model 1"


def test_without_a_champion_it_does_not_begin(client, loads, audience):
    client.delete_registered_model_alias(NAME, CHAMPION)
    with pytest.raises(TrackingError, match=f"{NAME}' has no champion"):
        RegistryWatcher(client, NAME, loads, audience).begin()


def test_a_promotion_and_a_rollback_are_followed(watcher, point, audience, loads):
    point(CHAMPION, 2)
    watcher.look()
    assert audience.champion == "model 2"
    point(CHAMPION, 1)
    watcher.look()
    assert audience.champion == "model 1"
    assert loads == ["1", "2"]  # the way back took no loading, though no alias named it
    point(PREVIOUS, 2)
    for version in (3, 4, 2):
        point(CHAMPION, version)
        watcher.look()
    assert loads == ["1", "2", "3", "4"]


def test_nothing_is_done_while_nothing_changes(watcher, audience, loads):
    for _ in range(3):
        watcher.look()
    assert audience.served == ["model 1"]
    assert loads == ["1"]
    assert audience.registry is True


def test_the_challenger_is_shown_with_the_verdict_of_the_gate_and_promoted_without_loading(
    watcher, client, point, audience, loads
):
    point(CHALLENGER, 3)
    watcher.look()
    assert (audience.challenger, audience.verdict) == ("model 3", None)
    client.set_model_version_tag(NAME, "3", VERDICT_TAG, "passed")
    watcher.look()
    assert audience.verdict == "passed"
    point(CHAMPION, 3)
    watcher.look()
    assert audience.champion == "model 3"
    assert audience.challenger is None  # it is the champion now
    assert loads == ["1", "3"]


def test_a_champion_that_cannot_be_loaded_is_told_and_the_one_before_goes_on(
    watcher, point, audience, loads, monkeypatch
):
    loads.broken = {"2"}
    point(CHAMPION, 2)
    watcher.look()
    assert audience.champion == "model 1"
    assert audience.trouble == "version 2 is champion, but could not be loaded (half a file); continuing with version 1"
    watcher.look()
    assert loads == ["1", "2"]  # not again and again
    monkeypatch.setattr(watcher_module, "RETRY_SECONDS", 0)
    loads.broken = {}
    watcher.look()
    assert (audience.champion, audience.trouble) == ("model 2", None)


def test_back_from_a_champion_that_cannot_be_loaded_nothing_is_wrong_any_more(watcher, point, audience, loads):
    loads.broken = {"2"}
    point(CHAMPION, 2)
    watcher.look()
    point(CHAMPION, 1)
    watcher.look()
    assert (audience.champion, audience.trouble) == ("model 1", None)


def test_a_challenger_that_cannot_be_loaded_is_no_trouble_for_the_champion(watcher, point, audience, loads):
    loads.broken = {"4"}
    point(CHALLENGER, 4)
    watcher.look()
    assert (audience.champion, audience.challenger, audience.trouble) == ("model 1", None, None)


def test_without_the_alias_the_last_champion_goes_on(watcher, client, audience):
    client.delete_registered_model_alias(NAME, CHAMPION)
    watcher.look()
    assert audience.champion == "model 1"
    assert audience.trouble == f"{NAME} has no champion any more; continuing with version 1"


def test_while_the_registry_is_away_the_champion_goes_on(watcher, client, point, audience, monkeypatch):
    def away(name):
        raise MlflowException("no connection")

    with monkeypatch.context() as patch:
        patch.setattr(client, "get_registered_model", away)
        watcher.look()
        assert (audience.champion, audience.registry) == ("model 1", False)
    point(CHAMPION, 2)
    watcher.look()
    assert (audience.champion, audience.registry) == ("model 2", True)


def test_versions_that_no_alias_names_are_not_kept_in_memory(watcher, point, audience, loads):
    for version in (2, 3, 4, 1):
        point(CHAMPION, version)
        watcher.look()
    assert loads == ["1", "2", "3", "4", "1"]


def test_following_ends_when_it_is_told_to(watcher, audience):
    watcher.stop()
    watcher.follow(1000.0)
    assert audience.registry is True  # it looked once
