"""`darkroom train` on two devices: the same as on one, and after any process was killed or all were interrupted."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from safetensors.torch import load_file
from tests.defaults import write_params
from tests.forkserver import context
from tests.ports import free_port
from tests.stages import inside, run_stages
from tests.wait import wait_until

from darkroom.config import load
from darkroom.errors import CacheError
from darkroom.stages import train as train_stage
from darkroom.workspace import Workspace

EPOCHS = 6
KILLED_AFTER = 2
SETTINGS = {
    "search__trials": 0, "model__name": "mlp", "model__hidden": [8], "train__epochs": EPOCHS, "train__device": "cpu",
    "train__precision": "fp32",
}  # fmt: skip


HERE = Workspace()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A project in which two devices have trained a model."""
    root = tmp_path_factory.mktemp("uninterrupted")
    write_params(root, **SETTINGS)
    shutil.copyfile(empty_store, root / "mlflow.db")
    run_stages(root, "download", "preprocess", "search")
    train(root, 2)
    return root


@pytest.fixture
def prepared(uninterrupted: Path, tmp_path: Path, empty_store: Path) -> Path:
    """The same project before its training."""
    for name in ("data", "models/search", "reports/preprocess"):
        shutil.copytree(uninterrupted / name, tmp_path / name)
    write_params(tmp_path, **SETTINGS)
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    return tmp_path


def start(root: Path, said: Path, killed: int | None = None, *, waits: bool = False, **environment: str) -> BaseProcess:
    """Start `darkroom train` in ``root``, in a process that says to ``said`` what it and its members say.

    After ``KILLED_AFTER`` epochs the member of rank ``killed`` is killed. If the command ``waits``, all members then
    wait for a signal, and are given no time after it. It and its members are a process group, as those of a terminal.
    """
    command = context().Process(target=_be_command, args=(root, said, killed, waits, environment))
    command.start()
    return command


def _be_command(root: Path, said: Path, killed: int | None, waits: bool, environment: dict[str, str]) -> None:
    from darkroom.cli import main as cli
    from darkroom.training import device, launch
    from darkroom.training.loop import EpochMetrics, TrainingLoop

    os.setpgid(0, 0)
    launch.START_METHOD = "fork"  # its members need not import torch, and begin with what is set here
    if waits:
        launch.PATIENCE_SECONDS = 0.0
    device.cores = lambda: [0, 1]
    run_epoch = TrainingLoop.run_epoch

    def run_or_die(loop: TrainingLoop, on_step: Callable[[], None]) -> EpochMetrics:
        if (killed is not None or waits) and len(loop.result.history) == KILLED_AFTER:
            (root / f"member {loop.ranks.rank}").write_text(str(os.getpid()))
            if waits:
                signal.pause()
            if loop.ranks.rank == killed:
                # The others are there, and wait for it.
                wait_until(lambda: len(list(root.glob("member *"))) == loop.ranks.count, "all came so far")
                os.kill(os.getpid(), signal.SIGKILL)
        return run_epoch(loop, on_step)

    TrainingLoop.run_epoch = run_or_die
    with said.open("wb") as written:
        for stream in (1, 2):
            os.dup2(written.fileno(), stream)
    sys.argv = ["darkroom", "train"]
    with inside(root, **environment):
        cli.main()


def train(root: Path, devices: int) -> str:
    """What the command says."""
    write_params(root, **SETTINGS, train__devices=devices)
    command = start(root, root / "said")
    command.join()
    assert command.exitcode == 0, (root / "said").read_text()
    return (root / "said").read_text()


def history(root: Path) -> list[list[float]]:
    """The metrics of each epoch, without its time."""
    _, *lines = (root / "reports" / "train" / "history.csv").read_text().splitlines()
    return [[float(value) for value in line.split(",")[:-1]] for line in lines]


def runs(root: Path) -> list[tuple[str, str | None]]:
    """The status of each run, and on how many devices it was."""
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("darkroom").experiment_id])
    return [(run.info.status, run.data.tags.get("system.devices")) for run in found]


def members(root: Path) -> list[int]:
    """The processes that have trained ``KILLED_AFTER`` epochs."""
    return [int(path.read_text()) for path in root.glob("member *")]


def kill_one(root: Path, rank: int) -> tuple[int | None, list[str]]:
    """Kill a process in the middle of the training; gives the command's exit code, and the lines that it says."""
    write_params(root, **SETTINGS, train__devices=2)
    command = start(root, root / "said", killed=rank)
    command.join()
    came = members(root)
    assert len(came) == 2
    assert not any(map(psutil.pid_exists, came))
    return command.exitcode, (root / "said").read_text().splitlines()


def test_two_devices_learn_what_one_learns(uninterrupted: Path, prepared: Path) -> None:
    train(prepared, 1)
    for own, expected in zip(history(prepared), history(uninterrupted), strict=True):
        assert own == pytest.approx(expected, rel=1e-3)
    assert (runs(prepared), runs(uninterrupted)) == ([("FINISHED", "1")], [("FINISHED", "2")])
    said = [(root / "said").read_text().splitlines() for root in (prepared, uninterrupted)]
    assert all(len(lines) == 1 for lines in said), said
    assert all(lines[0].startswith(f"train: trained {EPOCHS} of {EPOCHS} epochs") for lines in said)


@pytest.mark.parametrize("rank", [0, 1])
def test_if_one_is_killed_the_next_start_ends_with_the_same_bits(
    uninterrupted: Path, prepared: Path, rank: int
) -> None:
    code, said = kill_one(prepared, rank)

    assert code == 2
    (line,) = said
    assert line.startswith(f"error: process {rank} of the 2 that train together has ended by SIGKILL")
    assert line.endswith("; run the same command again: the training resumes after its last checkpoint")
    assert "RUNNING" not in {status for status, _ in runs(prepared)}
    assert "train: resuming after epoch" in train(prepared, 2)
    found, expected = (load_file(root / "models" / "model.safetensors") for root in (prepared, uninterrupted))
    assert found.keys() == expected.keys()
    assert all(found[name].equal(value) for name, value in expected.items())
    assert [status for status, _ in runs(prepared)] == ["FINISHED"]


def test_on_another_number_of_devices_it_resumes_and_says_that_bits_differ(uninterrupted: Path, prepared: Path) -> None:
    kill_one(prepared, 1)

    said = train(prepared, 1)

    assert "the training was begun on 2 devices and resumes on 1" in said
    for own, before in zip(history(prepared), history(uninterrupted), strict=True):
        assert own == pytest.approx(before, rel=1e-3)


def test_ctrl_c_is_answered_and_leaves_nothing_to_the_next_start_but_the_training(prepared: Path) -> None:
    write_params(prepared, **SETTINGS, train__devices=2)
    command = start(prepared, prepared / "said", waits=True)
    wait_until(lambda: len(members(prepared)) == 2 or not command.is_alive(), "both came so far")
    assert command.pid
    os.killpg(command.pid, signal.SIGINT)
    command.join()

    assert command.exitcode == 128 + signal.SIGINT
    assert (prepared / "said").read_text().splitlines() == [
        "",
        "ending the run; press Ctrl-C again to stop at once",
        "interrupted; the same command resumes",
    ]
    assert not any(map(psutil.pid_exists, members(prepared)))
    assert [status for status, _ in runs(prepared)] == ["KILLED"]
    assert not any(Workspace(prepared).spools.glob("*"))
    assert "train: resuming after epoch" in train(prepared, 2)
    assert [status for status, _ in runs(prepared)] == ["FINISHED"]


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
    prepared: Path, tmp_path_factory: pytest.TempPathFactory, settings: dict[str, int], told: str
) -> None:
    write_params(prepared, **SETTINGS, **{f"train__{key}": value for key, value in settings.items()})
    said = tmp_path_factory.mktemp("said") / "text"
    before = sorted(prepared.rglob("*"))
    command = start(prepared, said)
    command.join()
    assert (command.exitcode, said.read_text()) == (2, f"error: {told}\n")
    assert sorted(prepared.rglob("*")) == before


@pytest.mark.parametrize("split", ["train", "val"])
def test_missing_images_are_reported_before_processes_are_started(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    write_params(prepared, **SETTINGS, train__devices=2)
    monkeypatch.chdir(prepared)
    monkeypatch.setattr("darkroom.training.launch.launch", lambda *given: pytest.fail("processes were started"))
    Path(f"data/processed/digits/{split}.safetensors").unlink()
    with pytest.raises(
        CacheError, match=rf"{split}\.safetensors: missing .*; run `darkroom preprocess` again, or `dvc pull \S+digits`"
    ):
        train_stage.run(load(HERE.params), HERE)


def test_settings_that_differ_between_processes_are_refused_by_name(
    prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two processes as torchrun starts them, each with a params.yaml of its own."""
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(prepared, other, dirs_exist_ok=True)
    write_params(other, **SETTINGS, train__lr=0.5)
    environment = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    commands = [
        start(root, root / "said", RANK=str(rank), LOCAL_RANK=str(rank), **environment)
        for rank, root in enumerate((prepared, other))
    ]
    for command, root in zip(commands, (prepared, other), strict=True):
        command.join()
        assert command.exitcode == 2
        assert (root / "said").read_text().splitlines() == [
            "error: the processes of this training disagree on train.lr: process 0 has 0.001, process 1 has 0.5; give "
            "all of them the same files and packages"
        ]
    client = MlflowClient(f"sqlite:///{prepared / 'mlflow.db'}")
    assert client.get_experiment_by_name("darkroom") is None
