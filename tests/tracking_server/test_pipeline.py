"""The whole pipeline against the server, chosen by the environment and the settings alone."""

import json
from pathlib import Path

import optuna
import pytest

MODEL = "darkroom-digits"


@pytest.fixture
def champion(team, client):
    return client.get_model_version_by_alias(MODEL, "champion")


def test_the_server_has_the_run_with_its_metrics(team, client, champion):
    run = client.get_run(champion.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/accuracy"] == team.read("reports/evaluate/metrics.json")["accuracy"]
    assert [point.step for point in client.get_metric_history(run.info.run_id, "val/loss")] == [1, 2]


def test_files_go_through_the_server(team, client, champion, tmp_path):
    assert client.get_run(champion.run_id).info.artifact_uri.startswith("mlflow-artifacts:/")
    brought = client.download_artifacts(champion.run_id, "evaluate/metrics.json", str(tmp_path))
    assert json.loads(Path(brought).read_text()) == team.read("reports/evaluate/metrics.json")


def test_nothing_is_kept_beside_the_server(team):
    assert not (team.clone.root / "mlflow.db").exists()
    assert not (team.clone.root / "mlruns").exists()


def test_two_workers_searched_in_the_database_at_once(team, client):
    # Beside it lies the study of the repetitions, of which there are none here.
    (name,) = [each for each in optuna.get_all_study_names(team.server.studies) if not each.endswith("-repeats")]
    trials = optuna.load_study(study_name=name, storage=team.server.studies).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE"]
    assert max(trial.datetime_start for trial in trials) < min(trial.datetime_complete for trial in trials)


def test_darkroom_models_shows_the_version(team, champion):
    shown = team.darkroom("models").output
    assert f"Registered as {MODEL}" in shown
    assert "champion" in shown


def test_a_wrong_password_is_one_line(team):
    ended = team.darkroom("models", MLFLOW_TRACKING_PASSWORD="wrong")
    assert ended.code == 2
    assert ended.errors.splitlines() == [
        f"error: MLflow store {team.server.address} does not know this user or password; "
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    ]


def test_a_study_without_its_password_is_one_line(team):
    ended = team.darkroom("search", PGPASSWORD="wrong")
    assert ended.code == 2
    (line,) = ended.errors.splitlines()
    assert line.startswith("error: search.storage: postgresql+psycopg2://optuna@127.0.0.1:")
    assert "password authentication failed" in line
