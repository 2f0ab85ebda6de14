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
from tests.ports import free_port
from tests.stages import run_stages
from tests.wait import SECONDS, wait_until

EPOCHS = 20
# `darkroom train`, which tells its store of the run at once, and trains its third epoch when the server is dead:
# whatever the speed of the machine, the server dies in the middle of a training.
TRAIN = """
import pathlib, sys, time
from darkroom.stages import train
from darkroom.tracking import writer

class EpochReport(train._EpochReport):
    def __call__(self, metrics):
        super().__call__(metrics)
        while metrics.epoch == 2 and not pathlib.Path("server_is_dead").exists():
            time.sleep(0.05)

writer.QUIET = 0
train._EpochReport = EpochReport
sys.argv = ["darkroom", "train"]
from darkroom.cli import main
main()
"""


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
    """What is said when a server is killed in the middle of a training, evaluation is tried, and the server is back."""
    place = tmp_path_factory.mktemp("away")
    clone, server = make_clone(place, search__trials=0, train__epochs=EPOCHS), Server(place)
    run_stages(clone.root, "download", "preprocess", "search")
    shutil.copyfile(empty_store, place / "server.db")
    server.start()
    try:
        training = clone.start(sys.executable, "-c", TRAIN, MLFLOW_TRACKING_URI=server.address)
        client = MlflowClient(server.address)
        wait_until(lambda: runs(client), "the server knew the run", training)
        server.kill()
        (clone.root / "server_is_dead").touch()
        trained, _ = training.communicate(timeout=SECONDS)
        refused = clone.run("darkroom", "evaluate", check=False, MLFLOW_TRACKING_URI=server.address)
        server.start()
        run_stages(clone.root, "evaluate", MLFLOW_TRACKING_URI=server.address)
        yield clone.root, client, (training.returncode, trained), (refused.returncode, refused.stderr)
    finally:
        server.kill()


def runs(client):
    experiment = client.get_experiment_by_name("darkroom")
    return client.search_runs([experiment.experiment_id]) if experiment else []


def test_the_training_ends_well_with_one_warning(story):
    root, _, (code, said), _ = story
    assert code == 0, said
    assert said.count("warning:") == 1
    assert "what it lacks is kept in" in said
    assert "Traceback" not in said
    assert (root / "models" / "model.safetensors").exists()


def test_an_evaluation_is_refused_while_the_server_is_away(story):
    *_, (code, said) = story
    assert code == 2
    assert said.splitlines()[-1].startswith("error: MLflow store http://127.0.0.1:")
    assert "Traceback" not in said


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
