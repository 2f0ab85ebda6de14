"""Runs in MLflow: what they hold, and that they always end."""

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException

from darkroom.config.settings import Model, Tracking
from darkroom.data.cache import DatasetCard
from darkroom.errors import TrackingError
from darkroom.models.card import ModelCard
from darkroom.models.classifier import build_classifier
from darkroom.tracking.logged_model import log_model
from darkroom.tracking.runs import epoch_metrics, log_training
from darkroom.tracking.tracker import connect
from darkroom.workspace import Workspace

DATA = DatasetCard(
    "digits", ("a", "b", "c"), (1, 8, 8), (0.3,), (0.4,), {"train": 4, "val": 2, "test": 2},
    {"dataset": {"name": "digits"}, "preprocess": {"seed": 0}}, "f" * 64,
)  # fmt: skip
EPOCH = {"train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 0.9, "val_accuracy": 0.6, "lr": 0.1, "seconds": 0.2}


@pytest.fixture
def store(project):
    project()
    return connect(Tracking(), Workspace().spools)


def ended(store, run):
    found = store.client.get_run(store.id_of(run.key))
    return found.info.status, found.data.tags.get("darkroom.ended")


def test_a_run_that_is_left_is_finished(store):
    with store.start("a run", "train") as run:
        assert ended(store, run) == ("RUNNING", None)
    assert ended(store, run) == ("FINISHED", None)


def test_an_error_makes_a_failed_run_with_its_reason(store):
    with pytest.raises(RuntimeError), store.start("a run", "train") as run:
        raise RuntimeError("the loss is nan\nand more")
    assert ended(store, run) == ("FAILED", "the loss is nan")


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), SystemExit(143)])
def test_being_stopped_makes_a_killed_run(store, problem):
    with pytest.raises(type(problem)), store.start("a run", "train") as run:
        raise problem
    assert ended(store, run)[0] == "KILLED"


@pytest.mark.slow
def test_a_run_whose_process_is_gone_is_ended_when_the_next_one_connects(store, project):
    script = (
        "import os; from darkroom.config import Tracking; from darkroom.tracking.tracker import connect; "
        "from darkroom.workspace import Workspace; store = connect(Tracking(), Workspace().spools); "
        "print(store.id_of(store.start('a run', 'train').key), flush=True); os._exit(1)"
    )
    environment = os.environ | {"MLFLOW_LOGGING_LEVEL": "ERROR"}
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment).stdout
    own = store.start("this process", "train")
    assert store.client.get_run(output.strip()).info.status == "RUNNING"
    connect(Tracking(), Workspace().spools)
    gone = store.client.get_run(output.strip())
    assert (gone.info.status, gone.data.tags["darkroom.ended"]) == ("KILLED", "process gone")
    assert store.client.get_run(store.id_of(own.key)).info.status == "RUNNING"


def test_a_run_of_another_machine_is_left_alone(store):
    run = store.start("a run", "train")
    store.client.set_tag(store.id_of(run.key), "darkroom.process", "another-host:1:0")
    store.end_abandoned()
    assert ended(store, run)[0] == "RUNNING"


def test_a_killed_run_can_be_gone_on_with(store):
    with pytest.raises(KeyboardInterrupt), store.start("a run", "train") as run:
        raise KeyboardInterrupt
    assert ended(store, run) == ("KILLED", "KeyboardInterrupt")
    with store.start("a run", "train", key=run.key) as resumed:
        assert ended(store, resumed) == ("RUNNING", None)
    assert ended(store, resumed) == ("FINISHED", None)
    assert len(store.client.search_runs([store.experiment_id])) == 1


def test_a_run_that_was_deleted_is_begun_anew(store):
    run = store.start("a run", "train")
    deleted = store.id_of(run.key)
    store.client.delete_run(deleted)
    store.start("a run", "train", key=run.key)
    assert store.id_of(run.key) != deleted


def test_a_run_that_is_not_there_cannot_be_told_anything(store):
    with pytest.raises(TrackingError, match="run 000 is not in the MLflow store, or deleted"):
        store.apply({"do": "tags", "run": "000", "tags": {"a": "b"}})


def test_a_run_without_a_parent_joins_the_project_run(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "1" * 32)
    outer = store.start("outer", "search")
    inner = store.start("inner", "trial", parent=outer.key)
    ids = [store.id_of(run.key) for run in (outer, inner)]
    parents = [store.client.get_run(run_id).data.tags["mlflow.parentRunId"] for run_id in ids]
    assert parents == ["1" * 32, ids[0]]


def test_a_point_of_a_curve_is_kept_once_and_a_figure_without_a_step_can_change(store):
    with store.start("a run", "train") as run:
        for value in (0.5, 0.7):
            run.log_metrics({"val/loss": value}, step=1)
            run.log_metrics({"test/loss": value})
    run_id = store.id_of(run.key)
    assert [(point.step, point.value) for point in store.client.get_metric_history(run_id, "val/loss")] == [(1, 0.5)]
    assert store.client.get_run(run_id).data.metrics["test/loss"] == 0.7


def test_a_figure_of_the_test_split_is_one_of_the_run_and_one_of_its_model_on_the_dataset(store):
    with store.start("a run", "train") as run:
        run_id = store.id_of(run.key)
        model = store.client.create_logged_model(store.experiment_id, source_run_id=run_id)
        run.log_test({"accuracy": 0.9}, DATA, model.model_id)
        run.log_test({"loss": 0.3}, DATA, None)
    assert store.client.get_run(run_id).data.metrics == {"test/accuracy": 0.9, "test/loss": 0.3}
    (point,) = store.client.get_logged_model(model.model_id).metrics
    assert (point.key, point.value, point.dataset_name) == ("test/accuracy", 0.9, "digits")
    with store.start("a run", "train", key=run.key) as run:
        run.log_dataset(DATA, "training")
    assert store.client.get_run(run_id).inputs.dataset_inputs[0].dataset.digest == point.dataset_digest


def test_a_run_can_be_renamed(store):
    with store.start("trial 3", "trial") as run:
        run.rename("trial 3, pruned after epoch 1")
    assert store.client.get_run(store.id_of(run.key)).info.run_name == "trial 3, pruned after epoch 1"


def test_a_model_that_was_not_logged_to_its_end_counts_as_none(store):
    run_id = store.id_of(store.start("a run", "train").key)
    model = store.client.create_logged_model(store.experiment_id, source_run_id=run_id)
    store.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    assert store.model_uri(run_id) == ""
    store.client.finalize_logged_model(model.model_id, "READY")
    assert store.model_uri(run_id) == f"models:/{model.model_id}"


def test_many_settings_are_logged_and_known_ones_kept(store):
    with store.start("a run", "train") as run:
        run.log_params({f"key{number}": number for number in range(250)})
        run.log_params({"key0": "changed", "another": [1, 2]})
    params = store.client.get_run(store.id_of(run.key)).data.params
    assert len(params) == 251
    assert (params["key0"], params["key249"], params["another"]) == ("0", "249", "[1, 2]")


def test_a_logged_training_holds_everything_once_however_often_it_is_logged(store, tmp_path):
    report = tmp_path / "reports" / "train"
    report.mkdir(parents=True)
    (report / "curves.png").write_bytes(b"picture")
    settings = {**DATA.settings, "model": {"name": "mlp"}, "train": {"epochs": 2, "lr": 0.002}}
    classifier = build_classifier(Model(name="mlp"), DATA).eval()
    card = ModelCard(
        asdict(DATA), settings,
        {"system.device": "cpu"}, {"epoch": 2} | EPOCH, "run", "0" * 64,
    )  # fmt: skip
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    history = [{"epoch": epoch} | EPOCH for epoch in (1, 2)]
    with store.start("a run", "train") as run:
        for _ in range(2):
            for epoch in history:
                run.log_metrics(epoch_metrics(epoch), step=epoch["epoch"])
            log_training(run, card, {"seconds": 0.1, "share": 0.01}, [report])
            log_model(store, run.key, classifier, card, images.numpy())
    run_id = store.id_of(run.key)
    found = store.client.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params["model.name"] == "mlp"
    assert found.data.metrics["best/val_accuracy"] == EPOCH["val_accuracy"]
    assert found.data.metrics["tracking/share"] == 0.01
    assert len(found.inputs.dataset_inputs) == 1
    assert [point.step for point in store.client.get_metric_history(run_id, "val/loss")] == [1, 2]
    assert [each.path for each in store.client.list_artifacts(run_id, "train")] == ["train/curves.png"]
    loaded = mlflow.pytorch.load_model(store.model_uri(run_id))
    for count in (1, 3):
        torch.testing.assert_close(loaded(images[:count]), classifier(images[:count]))
    (name,) = {each.name for each in store.client.search_logged_models([store.experiment_id])}
    assert name == "mlp on digits, lr 0_002, 2 epochs"
    signature = mlflow.models.get_model_info(store.model_uri(run_id)).signature
    assert signature.inputs.inputs[0].type == np.dtype("uint8")
    assert signature.inputs.inputs[0].shape == (-1, 1, 8, 8)


def test_a_deleted_experiment_is_refused(store):
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(
        TrackingError, match=r"is deleted; `.*/mlflow\.db mlflow experiments restore --experiment-id 1` restores"
    ):
        connect(Tracking(), Workspace().spools)


def test_a_database_that_cannot_be_made_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(self, address):
        Path(address.removeprefix("sqlite:///")).write_bytes(b"half")
        raise MlflowException("disk full")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(MlflowClient, "__init__", fail)
    with pytest.raises(TrackingError, match=r"mlflow\.db cannot be used \(disk full\)"):
        connect(Tracking(), Workspace().spools)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_makes_the_database_leaves_none(tmp_path):
    script = (
        "import os, sys; from mlflow import MlflowClient; from darkroom.tracking.store import Store; "
        "MlflowClient.search_experiments = lambda *_, **__: os._exit(9); Store.connect(sys.argv[1], 'darkroom')"
    )
    database = tmp_path / "mlflow.db"
    ended = subprocess.run([sys.executable, "-c", script, f"sqlite:///{database}"])
    assert ended.returncode == 9
    assert not database.exists()


def test_the_files_of_a_queued_experiment_lie_in_the_projects_root(project, monkeypatch):
    root = project()
    copy = root / ".dvc" / "tmp" / "exps" / "abc"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    store = connect(Tracking(), Workspace().spools)
    run = store.start("a run", "train")
    run.log_directory(root / "data", "data")
    assert store.client.get_run(store.id_of(run.key)).info.artifact_uri.startswith((root / "mlruns").as_uri())
    assert list(copy.iterdir()) == []
