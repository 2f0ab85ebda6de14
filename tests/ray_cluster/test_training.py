"""Trainings that are shared by processes of a real Ray cluster: the same answer, and a process that is killed."""

import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from mlflow import MlflowClient
from tests.defaults import write_params
from tests.forkserver import context
from tests.ray_cluster.cluster import Nodes
from tests.ray_cluster.members import CHANGES, train_together
from tests.stages import inside, run_stages
from tests.unit.training.shared_trainings import train_alone
from tests.wait import wait_until

from darkroom.config.settings import Train

SETTINGS = {
    "search__trials": 0, "model__name": "mlp", "model__hidden": [8], "train__epochs": 25, "train__device": "cpu",
    "train__precision": "fp32", "train__devices": 2, "train__executor": "ray",
}  # fmt: skip


def start(root: Path, work: Callable[[], object]) -> BaseProcess:
    """Start ``work`` in ``root``, in a process that says to a file there what it says."""
    process = context().Process(target=_be_process, args=(root, work, dict(os.environ)))
    process.start()
    return process


def _be_process(root: Path, work: Callable[[], object], environment: dict[str, str]) -> None:
    with (root / "said").open("wb") as written:
        for stream in (1, 2):
            os.dup2(written.fileno(), stream)
    with inside(root, **environment):
        work()


def darkroom_train() -> None:
    from darkroom.cli import main as cli

    sys.argv = ["darkroom", "train"]
    cli.main()


def on_ray(settings: Train, work: Callable[..., None], *given: Any) -> None:
    from darkroom.training.ray_launch import launch_on_ray

    launch_on_ray(settings, work, *given)


def end(process: BaseProcess, root: Path) -> tuple[int | None, list[str]]:
    """The exit code of a process, and the lines that it has said."""
    process.join()
    return process.exitcode, (root / "said").read_text().splitlines()


def statuses(root: Path) -> list[str]:
    """Of the runs in the store."""
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("darkroom")
    return [run.info.status for run in client.search_runs([experiment.experiment_id])] if experiment else []


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, cluster: Nodes, empty_store: Path) -> Path:
    """A project before its training on the cluster."""
    root = tmp_path_factory.mktemp("project")
    write_params(root, **SETTINGS, train__ray_address=cluster.address)
    shutil.copyfile(empty_store, root / "mlflow.db")
    run_stages(root, "download", "preprocess", "search")
    return root


def test_two_processes_of_the_cluster_learn_what_one_process_learns(tmp_path: Path, cluster: Nodes) -> None:
    settings = Train(devices=2, device="cpu", executor="ray", ray_address=cluster.address)
    code, said = end(start(tmp_path, partial(on_ray, settings, train_together, tmp_path)), tmp_path)

    assert (code, said) == (0, ["trained in 2 processes"])
    expected, *_ = train_alone(tmp_path, "simple-cnn", CHANGES, 20)
    for rank in range(2):
        for name, value in torch.load(tmp_path / f"{rank}.pt").items():
            torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-10)
    assert {path.name for path in tmp_path.iterdir()} == {"0.pt", "1.pt", "said"}


def test_if_the_first_is_killed_the_other_ends_and_the_next_start_resumes(
    prepared: Path, cluster: Nodes, all_end: Callable[[list[psutil.Process]], bool]
) -> None:
    before = {path.name for path in prepared.iterdir()}
    command = start(prepared, darkroom_train)
    checkpoint = prepared / "models" / "checkpoints" / "train.pt"
    wait_until(lambda: checkpoint.exists() or not command.is_alive(), "the training was to be killed")
    members = cluster.processes("RayTrainWorker")
    assert len(members) == 2
    (writer,) = [each for each in members if any("tracking" in file.path for file in each.open_files())]
    writer.kill()
    code, (line,) = end(command, prepared)

    assert code == 2
    assert line.startswith(
        f"error: process 0 of the 2 that train together has ended in the cluster at {cluster.address}, perhaps"
    )
    assert all_end(members)
    assert "RUNNING" not in statuses(prepared)

    code, said = end(start(prepared, darkroom_train), prepared)
    assert code == 0, said
    assert said[0].startswith("train: resuming after epoch")
    assert said[-1].startswith("train: trained 25 of 25 epochs")
    assert statuses(prepared) == ["FINISHED"]
    # Nothing of Ray's is left among the project's files.
    assert {path.name for path in prepared.iterdir()} == before | {"said", "mlruns"}
