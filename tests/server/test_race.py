"""Many promote at once, and die while they do: there is one champion, and the history says how it became that."""

import multiprocessing
import os
import signal
import sys

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from tests.server import race

from darkroom.promotion.history import History, Kind, counting, damage
from darkroom.promotion.transaction import settle
from darkroom.tracking.runs import WEIGHTS_TAG

NAME = "a-race"
PROMOTERS, ROUNDS, VERSIONS = 8, 50, 12


@pytest.fixture(scope="module")
def registry(server):
    """A registry on the server with versions of which one in three does not pass the gate."""
    with pytest.MonkeyPatch.context() as patch:
        for key, value in server.environment.items():
            patch.setenv(key, value)
        client = MlflowClient(server.address)
        experiment = client.create_experiment(NAME)
        client.create_registered_model(NAME)
        for number in range(1, VERSIONS + 1):
            run_id = client.create_run(experiment).info.run_id
            model_id = client.create_logged_model(experiment, "model", run_id).model_id
            client.finalize_logged_model(model_id, LoggedModelStatus.READY)
            client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
            tags = {WEIGHTS_TAG: f"weights of {number}"}
            client.create_model_version(NAME, f"models:/{model_id}", run_id, tags=tags, model_id=model_id)
        yield client


@pytest.mark.timeout(600)
def test_eight_promoters_that_are_killed_at_any_step_leave_one_champion_in_every_round(
    registry, server, tmp_path, monkeypatch
):
    # Promoters begin with MLflow imported, which takes longer than what is tested. Their parent finds it by PYTHONPATH.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.server.race"])
    ends = set()
    for number in range(ROUNDS):
        promoters = [
            context.Process(
                target=race.run,
                args=(server.environment, str(tmp_path), NAME, VERSIONS, PROMOTERS * number + each),
                kwargs={"is_mortal": True},
            )
            for each in range(PROMOTERS)
        ]
        for each in promoters:
            each.start()
        for each in promoters:
            each.join()
            ends.add(each.exitcode)
        check(registry)
    assert ends == {0, -signal.SIGKILL}
    history = History(registry, NAME).read()
    changes = counting(history)
    assert {entry.kind for entry in history} == {Kind.PROMOTED, Kind.REFUSED, Kind.ROLLED_BACK}
    assert len([entry for entry in history if entry.changes]) > len(changes), "nobody was ever overtaken"
    assert damage(history) == []


def check(client):
    """One champion that passed its gate before and after the aliases are put in their places, which agree."""
    aliases = client.get_registered_model(NAME).aliases
    assert race.is_good(aliases.get("champion", 1))
    _, state = settle(client, NAME)
    changes = counting(History(client, NAME).read())
    aliases = {alias: str(version) for alias, version in client.get_registered_model(NAME).aliases.items()}
    if not changes:
        assert aliases == {}
        return
    assert aliases == {"champion": state.champion} | ({"previous": state.previous} if state.previous else {})
    assert (changes[-1].champion, changes[-1].previous) == (state.champion, state.previous)
    assert all(race.is_good(change.champion) for change in changes)
