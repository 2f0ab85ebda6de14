"""A training goes on when its MLflow server dies, and the server has everything once it is back."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient
from tests.conftest import QUICK
from tests.ports import free_port
from tests.stages import run_command, run_stages
from tests.wait import SECONDS, wait_until

from darkroom.stages import train
from darkroom.tracking import writer

EPOCHS = 6
LAST_BEFORE = 2


class Server:
    """A real MLflow server on this machine, that can be killed and started again."""

    def __init__(self, place):
        self.place = place
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        place = [f"--backend-store-uri=sqlite:///{self.place}/server.db", f"--artifacts-destination={self.place}/files"]
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mlflow",
                "server",
                *place,
                "--host=127.0.0.1",
                f"--port={self.port}",
                "--workers=1",
            ],
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(self.answers, "the server answered", self.process)

    def answers(self):
        try:
            return requests.get(f"{self.address}/health", timeout=5).ok
        except requests.RequestException:
            return False

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(SECONDS)


@pytest.fixture(scope="module")
def story(make_clone, empty_store, tmp_path_factory):
    """What is said when a server is killed in a training, registering is tried, and the server is back."""
    place = tmp_path_factory.mktemp("away")
    root, server = make_clone(place, **QUICK | {"train__epochs": EPOCHS}).root, Server(place)
    client, store = MlflowClient(server.address), {"MLFLOW_TRACKING_URI": server.address}
    run_stages(root, "download", "preprocess", "search")
    shutil.copyfile(empty_store, place / "server.db")
    server.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writer, "QUIET_SECONDS", 0)  # the store is told of the run at once
            patch.setattr(train, "_EpochReport", epoch_report(server, client))
            trained = run_command(root, "train", **store)
        run_stages(root, "evaluate", **store)
        refused = run_command(root, "register", **store)
        server.start()
        run_stages(root, "register", **store)
        yield root, client, trained, refused
    finally:
        server.kill()


def epoch_report(server, client):
    """Kills the server after an epoch: whatever the speed of the machine, it dies in the middle of a training."""

    class EpochReport(train._EpochReport):
        def __call__(self, metrics):
            super().__call__(metrics)
            if metrics.epoch == LAST_BEFORE:
                wait_until(lambda: runs(client), "the server knew the run")
                server.kill()

    return EpochReport


def runs(client):
    experiment = client.get_experiment_by_name("darkroom")
    return client.search_runs([experiment.experiment_id]) if experiment else []


def test_the_training_ends_well_with_one_warning(story):
    root, _, trained, _ = story
    said = trained.output + trained.errors
    assert trained.code == 0, said
    assert said.count("warning:") == 1
    assert "unsent data is kept in" in said
    assert "Traceback" not in said
    assert (root / "models" / "model.safetensors").exists()


def test_registering_is_refused_while_the_server_is_away(story):
    *_, refused = story
    assert refused.code == 2
    assert refused.errors.splitlines()[-1].startswith("error: MLflow store http://127.0.0.1:")
    assert "Traceback" not in refused.errors


def test_the_server_has_one_run_with_everything_when_it_is_back(story):
    root, client, *_ = story
    (run,) = runs(client)
    assert run.data.tags["darkroom.run"] == json.loads((root / "models" / "model.json").read_text())["run_id"]
    assert run.info.status == "FINISHED"
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "val/loss")]
    assert sorted(steps) == list(range(1, EPOCHS + 1))
    assert run.data.params["train.epochs"] == str(EPOCHS)
    assert {"tracking/share", "test/accuracy"} <= run.data.metrics.keys()
    found = {file.path for name in ("train", "evaluate") for file in client.list_artifacts(run.info.run_id, name)}
    assert {"train/curves.png", "evaluate/metrics.json"} <= found
    version = client.get_model_version_by_alias("darkroom-digits", "champion")
    assert version.run_id == run.info.run_id
    assert list((root / "models" / "checkpoints" / "tracking").iterdir()) == []
