"""The server itself: who is let in, and what it keeps."""

from pathlib import Path

import pytest
import requests
from deploy.tracking_server import Server
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from darkroom.errors import TrackingError

ROOT = Path(__file__).parents[2]


def test_runs_and_users_survive_that_the_machine_loses_its_power(server, client):
    client.create_experiment("kept")
    server.kill()
    assert not server._answers()
    server.start()
    assert client.get_experiment_by_name("kept") is not None


@pytest.mark.parametrize("signed_in", [None, ("admin", "password1234"), ("admin", ""), ("nobody", "x")])
def test_who_has_no_password_is_not_let_in(server, signed_in):
    answer = requests.get(
        f"{server.address}/api/2.0/mlflow/experiments/search?max_results=1", auth=signed_in, timeout=30
    )
    assert answer.status_code == 401


def test_secrets_are_for_their_owner_alone(server):
    secrets = [server.directory / name for name in ("password", "postgres.password", "optuna.password", "secret_key")]
    assert [oct(path.stat().st_mode)[-3:] for path in secrets] == ["600"] * 4
    assert len({path.read_text() for path in secrets}) == 4
    assert server.environment["MLFLOW_TRACKING_PASSWORD"] not in (server.directory / "mlflow.log").read_text()


@pytest.mark.parametrize("database", ["mlflow", "mlflow_auth", "postgres"])
def test_who_may_search_gets_at_the_studies_alone(server, client, database):
    studies = make_url(server.studies)
    with create_engine(studies).connect() as allowed:
        assert allowed.execute(text("SELECT current_user")).scalar() == "optuna"
    with pytest.raises(OperationalError, match=f'permission denied for database "{database}"'):
        create_engine(studies.set(database=database)).connect()


def test_a_second_server_on_the_same_data_is_refused(server):
    with pytest.raises(TrackingError, match=r"a server with this data is running \(process \d+\)"):
        Server(server.directory, 1, 2).start()


def test_a_port_in_use_is_named(server, tmp_path):
    with pytest.raises(TrackingError, match=f"127.0.0.1:{server.port} cannot be listened on .address already in use"):
        Server(tmp_path, server.port, server.postgresql.port).start()
