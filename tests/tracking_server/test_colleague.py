"""A colleague with a user of their own: what they may do with what others have made."""

import pytest
import requests
from deploy.tracking_server import ADMIN
from mlflow.exceptions import MlflowException

from darkroom.promotion.aliases import change_champion, reconcile_aliases
from darkroom.promotion.history import Entry, History, Kind
from darkroom.tracking.runs import WEIGHTS_TAG

MODEL = "of-a-colleague"
GRACE = ("grace", "a long enough one")


@pytest.fixture(scope="module")
def grace(server):
    """What a program needs to be let in as Grace."""
    requests.post(
        f"{server.address}/api/2.0/mlflow/users/create",
        json=dict(zip(("username", "password"), GRACE, strict=True)),
        auth=(ADMIN, server.environment["MLFLOW_TRACKING_PASSWORD"]),
        timeout=30,
    ).raise_for_status()
    return dict(zip(("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"), GRACE, strict=True))


@pytest.fixture
def signed_in(client, grace, monkeypatch):
    """A client of Grace, after the admin has made a model with two versions and promoted the first."""
    client.create_registered_model(MODEL)
    for number in (1, 2):
        run_id = client.create_run("0").info.run_id
        client.create_model_version(MODEL, f"runs:/{run_id}/model", run_id, tags={WEIGHTS_TAG: f"weights {number}"})
    change_champion(client, MODEL, entry(client, "1"), [])
    for key, value in grace.items():
        monkeypatch.setenv(key, value)
    return client


def entry(client, version, kind=Kind.PROMOTED, **more):
    run_id = client.get_model_version(MODEL, version).run_id
    return Entry(kind, version, f"weights {version}", run_id, "grace", champion=version, **more)


def aliases(client):
    return {alias: str(version) for alias, version in client.get_registered_model(MODEL).aliases.items()}


def test_a_colleague_promotes_rolls_back_and_deletes_nothing(signed_in):
    entries, state = reconcile_aliases(signed_in, MODEL)
    promoted = change_champion(
        signed_in, MODEL, entry(signed_in, "2", before="1", previous="1", after=state.number), entries
    )
    assert aliases(signed_in) == {"champion": "2", "previous": "1"}

    entries, _ = reconcile_aliases(signed_in, MODEL)
    change_champion(
        signed_in, MODEL, entry(signed_in, "1", Kind.ROLLED_BACK, before="2", after=promoted.number), entries
    )
    assert aliases(signed_in)["champion"] == "1"

    for forbidden in (
        lambda: signed_in.delete_model_version(MODEL, "2"),
        lambda: signed_in.delete_model_version(f"{MODEL}-history", "1"),
        lambda: signed_in.delete_registered_model(f"{MODEL}-history"),
    ):
        with pytest.raises(MlflowException, match="Permission denied"):
            forbidden()
    assert len(History(signed_in, MODEL).read()) == 3


def test_a_colleague_registers_what_others_have_trained(team, grace):
    assert "already registered" in team.darkroom("register", **grace).errors


def test_a_colleague_makes_no_users_and_nobody_signs_themselves_up(server, grace):
    users = f"{server.address}/api/2.0/mlflow/users/create"
    new = {"username": "mallory", "password": "also long enough"}
    assert requests.post(users, json=new, auth=GRACE, timeout=30).status_code == 403
    assert requests.post(users, json=new, timeout=30).status_code == 401
    assert requests.get(f"{server.address}/signup", timeout=30).status_code == 401
