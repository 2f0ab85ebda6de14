"""Many promote at once, and die while they do: there is one champion, and the history says how it became that."""

import shutil
import signal

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from tests.forkserver import context
from tests.tracking_server import race

from darkroom.promotion.aliases import reconcile_aliases
from darkroom.promotion.history import History, Kind, damage, effective
from darkroom.tracking.runs import WEIGHTS_TAG

NAME = "a-race"
PROMOTERS = 8
VERSIONS = 12


@pytest.fixture
def start(monkeypatch):
    """Begin a race in the store of an environment: versions of which one in three does not pass the gate."""

    def start(environment):
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        # Where there is no server, MLflow asks the process's own store for the model of a version, not the client's.
        mlflow.set_tracking_uri(environment["MLFLOW_TRACKING_URI"])
        client = MlflowClient()
        experiment = client.create_experiment(NAME)
        client.create_registered_model(NAME)
        for number in range(1, VERSIONS + 1):
            run_id = client.create_run(experiment).info.run_id
            model_id = client.create_logged_model(experiment, "model", run_id).model_id
            client.finalize_logged_model(model_id, LoggedModelStatus.READY)
            client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
            tags = {WEIGHTS_TAG: f"weights of {number}"}
            client.create_model_version(NAME, f"models:/{model_id}", run_id, tags=tags, model_id=model_id)
        return client

    yield start
    mlflow.set_tracking_uri(None)


@pytest.fixture
def run_rounds(tmp_path):
    """Let promoters race for some rounds, and look at the registry after each; returns how they ended."""

    def run_rounds(client, environment, rounds):
        ends = set()
        for number in range(rounds):
            promoters = [
                context().Process(
                    target=race.run, args=(environment, str(tmp_path), NAME, VERSIONS, PROMOTERS * number + each)
                )
                for each in range(PROMOTERS)
            ]
            for each in promoters:
                each.start()
            for each in promoters:
                each.join()
                ends.add(each.exitcode)
            check(client)
        return ends

    return run_rounds


@pytest.mark.timeout(7200)
def test_eight_promoters_that_are_killed_at_any_step_leave_one_champion_in_every_round(server, start, run_rounds, long):
    client = start(server.environment)

    assert run_rounds(client, server.environment, 200 if long else 6) == {0, -signal.SIGKILL}

    history = History(client, NAME).read()
    assert {entry.kind for entry in history} == {Kind.PROMOTED, Kind.REFUSED, Kind.ROLLED_BACK}
    assert len([entry for entry in history if entry.changes]) > len(effective(history)), "nobody was ever overtaken"
    assert damage(history) == []


def test_so_do_those_who_share_a_file_on_one_machine(empty_store, start, run_rounds, tmp_path, monkeypatch, long):
    monkeypatch.chdir(tmp_path)  # where MLflow puts the files
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    client = start(environment)

    assert run_rounds(client, environment, 50 if long else 3) == {0, -signal.SIGKILL}

    assert damage(History(client, NAME).read()) == []


def check(client):
    """One champion that passed its gate before and after the aliases are put in their places, which agree."""
    aliases = client.get_registered_model(NAME).aliases
    assert race.is_good(aliases.get("champion", 1))
    _, state = reconcile_aliases(client, NAME)
    changes = effective(History(client, NAME).read())
    aliases = {alias: str(version) for alias, version in client.get_registered_model(NAME).aliases.items()}
    if not changes:
        assert aliases == {}
        return
    assert aliases == {"champion": state.champion} | ({"previous": state.previous} if state.previous else {})
    assert (changes[-1].champion, changes[-1].previous) == (state.champion, state.previous)
    assert all(race.is_good(change.champion) for change in changes)
