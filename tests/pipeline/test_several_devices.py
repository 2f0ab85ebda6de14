"""`darkroom train` on two devices: the same as on one, and after any process was killed."""

import json
import os
import shutil
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from safetensors.torch import load_file
from tests.conftest import Project
from tests.defaults import write_params
from tests.forkserver import context
from tests.ports import free_port
from tests.stages import run_command, run_stages
from tests.wait import wait_until

SETTINGS = {
    "search__trials": 0, "model__name": "mlp", "model__hidden": [8], "train__epochs": 40, "train__device": "cpu",
    "train__precision": "fp32",
}  # fmt: skip


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """And processes that begin with torch imported."""
    context()
    monkeypatch.setattr("darkroom.training.launch.START_METHOD", "forkserver")
    monkeypatch.setattr("darkroom.training.device.cores", lambda: [0, 1])


@pytest.fixture
def prepared(project: Project) -> Path:
    root = project(**SETTINGS)
    run_stages(root, "download", "preprocess", "search")
    return root


def train(root: Path, devices: int) -> str:
    """What the command says."""
    write_params(root, **SETTINGS, train__devices=devices)
    code, _, said = run_command(root, "train")
    assert code == 0, said
    return said


def history(root: Path) -> list[list[float]]:
    """The metrics of each epoch, without its time."""
    _, *lines = (root / "reports" / "train" / "history.csv").read_text().splitlines()
    return [[float(value) for value in line.split(",")[:-1]] for line in lines]


def runs(root: Path) -> list[tuple[str, str | None]]:
    """The status of each run, and on how many devices it was."""
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("darkroom").experiment_id])
    return [(run.info.status, run.data.tags.get("system.devices")) for run in found]


def be_killed(root: Path, said: Path) -> None:
    from darkroom.training import launch

    launch.START_METHOD = "fork"  # its members are then its own children
    with said.open("wb") as written:
        for stream in (1, 2):
            os.dup2(written.fileno(), stream)
    ended = run_command(root, "train")
    said.with_suffix(".json").write_text(json.dumps(ended))


def kill_one(root: Path, rank: int) -> tuple[int, str]:
    """Kill a process in the middle of the training; gives the command's exit code, and what it says."""
    write_params(root, **SETTINGS, train__devices=2)
    said = root / "said"
    command = context().Process(target=be_killed, args=(root, said))
    command.start()
    checkpoint = root / "models" / "checkpoints" / "train.pt"
    wait_until(lambda: checkpoint.exists() or not command.is_alive(), "the training was to be killed")
    members = sorted(psutil.Process(command.pid).children(), key=lambda each: each.pid)
    assert len(members) == 2
    members[rank].kill()
    wait_until(lambda: not command.is_alive(), "the command was to end")
    assert not any(each.is_running() for each in members)
    code, _, errors = json.loads(said.with_suffix(".json").read_text())
    return code, said.read_text() + errors


def test_two_devices_learn_what_one_learns(prepared: Path) -> None:
    train(prepared, 1)
    alone = history(prepared)
    said = train(prepared, 2)
    for own, expected in zip(history(prepared), alone, strict=True):
        assert own == pytest.approx(expected, rel=1e-3)
    assert said.count("train: trained 40 of 40 epochs") == 1
    assert sorted(runs(prepared)) == [("FINISHED", "1"), ("FINISHED", "2")]


@pytest.mark.parametrize("rank", [0, 1])
def test_if_one_is_killed_the_next_start_ends_with_the_same_bits(prepared: Path, rank: int) -> None:
    train(prepared, 2)
    expected = load_file(prepared / "models" / "model.safetensors")

    code, said = kill_one(prepared, rank)

    assert code == 2
    (line,) = [line for line in said.splitlines() if line.strip()]
    assert line.startswith(f"error: process {rank} of the 2 that train together has ended by SIGKILL")
    assert "RUNNING" not in {status for status, _ in runs(prepared)}
    assert "train: resuming after epoch" in train(prepared, 2)
    found = load_file(prepared / "models" / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(found[name].equal(value) for name, value in expected.items())
    assert {status for status, _ in runs(prepared)} == {"FINISHED"}


def test_on_another_number_of_devices_it_resumes_and_says_that_bits_differ(prepared: Path) -> None:
    train(prepared, 2)
    expected = history(prepared)
    kill_one(prepared, 1)

    said = train(prepared, 1)

    assert "the training was begun on 2 devices and resumes on 1" in said
    for own, before in zip(history(prepared), expected, strict=True):
        assert own == pytest.approx(before, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"devices": 3}, "train.devices: 3 are more than this machine has (2 cores); set it to 2 or less"),
        (
            {"devices": 2, "batch_size": 63},
            "train.batch_size: 63 cannot be divided among 2 devices; the next that can is 64",
        ),
    ],
)
def test_what_cannot_be_trained_together_is_refused_before_any_work(
    prepared: Path, settings: dict[str, int], told: str
) -> None:
    before = sorted(prepared.rglob("*"))
    write_params(prepared, **SETTINGS, **{f"train__{key}": value for key, value in settings.items()})
    code, output, errors = run_command(prepared, "train")
    assert (code, output, errors) == (2, "", f"error: {told}\n")
    assert sorted(prepared.rglob("*")) == before


def test_settings_that_differ_between_processes_are_refused_by_name(
    prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two processes as torchrun starts them, each with a params.yaml of its own."""
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(prepared, other, dirs_exist_ok=True)
    write_params(other, **SETTINGS, train__lr=0.5)
    environment = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    commands = []
    for rank, root in enumerate((prepared, other)):
        given = {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        said = root / "said"
        commands.append((context().Process(target=be_member, args=(root, said, given)), said))
    for command, _ in commands:
        command.start()
    for command, said in commands:
        command.join()
        code, _, errors = json.loads(said.read_text())
        assert code == 2
        assert errors.splitlines() == [
            "error: the processes of this training disagree on train.lr: process 0 has 0.001, process 1 has 0.5; give "
            "all of them the same files and packages"
        ]
    assert runs(prepared) == []


def be_member(root: Path, said: Path, environment: dict[str, str]) -> None:
    said.write_text(json.dumps(run_command(root, "train", **environment)))
