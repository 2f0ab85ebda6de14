"""`make ui`: MLflow's page, opened where the runs are."""

import socket
import sys
import webbrowser

import pytest
from deploy import ui
from mlflow import MlflowClient


@pytest.fixture
def opened(monkeypatch):
    """The addresses that a browser was told to open."""
    found = []
    monkeypatch.setattr(webbrowser, "open", found.append)
    monkeypatch.setattr(sys, "argv", ["ui"])
    monkeypatch.setenv("DISPLAY", ":0")
    return found


def test_the_page_is_that_of_the_experiment_for_model_training(project):
    root = project(tracking__experiment="of-mine")
    page = ui.runs_page()
    experiment = MlflowClient(f"sqlite:///{root / 'mlflow.db'}").get_experiment_by_name("of-mine")
    assert page == f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"


def test_a_server_shows_its_own_page_and_no_password(opened, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://grace:secret@mlflow.example/")
    monkeypatch.setattr(ui, "runs_page", lambda: "#/experiments/7/runs")
    ui.main()
    assert opened == ["https://mlflow.example/#/experiments/7/runs"]
    assert "secret" not in "".join(capsys.readouterr())


def test_without_a_desktop_the_address_is_printed_alone(opened, monkeypatch, capsys):
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    ui.show("http://127.0.0.1:5000/#/experiments/1")
    assert opened == []
    assert "http://127.0.0.1:5000/#/experiments/1" in "".join(capsys.readouterr())


def test_without_a_store_nothing_is_started_or_made(opened, project, monkeypatch, capsys):
    root = project()
    (root / "mlflow.db").unlink()
    monkeypatch.setattr(ui, "serve", None)
    with pytest.raises(SystemExit) as ended:
        ui.main()
    assert ended.value.code == 2
    assert "no MLflow store at" in capsys.readouterr().err
    assert not (root / "mlflow.db").exists()


def test_a_port_that_is_taken_is_told_of_with_the_command_that_takes_another(opened, project, monkeypatch, capsys):
    project()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(sys, "argv", ["ui", "--port", str(taken.getsockname()[1])])
        with pytest.raises(SystemExit) as ended:
            ui.main()
    assert ended.value.code == 2
    assert "`make ui PORT=…`" in capsys.readouterr().err
