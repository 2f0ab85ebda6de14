"""A training gives the same bits again from its own commit, whatever is in the working tree by then."""

import json
import subprocess
import sys
import tempfile

import pytest
from mlflow import MlflowClient
from tests.stages import run_command, run_stages
from tests.wait import wait_until

SETTINGS = {"search__trials": 0, "train__epochs": 2, "model__name": "mlp"}


@pytest.fixture(scope="module")
def trained(make_clone, tmp_path_factory):
    """A clone with a committed training; since then its code is another, and what it holds is not committed."""
    clone = make_clone(tmp_path_factory.mktemp("reproduce"), **SETTINGS)
    run_stages(clone.root, "download", "preprocess", "search", "train")

    fit = clone.root / "src" / "darkroom" / "training" / "fit.py"
    code = fit.read_text()
    assert "torch.manual_seed(config.train.seed)" in code
    fit.write_text(code.replace("torch.manual_seed(config.train.seed)", "torch.manual_seed(config.train.seed + 1)"))
    clone.commit("another code")
    clone.configure(**SETTINGS, train__lr=0.01)
    return clone


@pytest.fixture(scope="module")
def run_id(trained):
    client = MlflowClient(f"sqlite:///{trained.root / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("darkroom").experiment_id])
    assert run.data.tags["darkroom.git_dirty"] == "false"
    return run.info.run_id


def test_the_models_file_says_of_which_commit_it_is(trained):
    facts = json.loads((trained.root / "models" / "model.json").read_text())["facts"]
    assert facts["mlflow.source.git.commit"] == trained.run("git", "rev-parse", "HEAD~").stdout.strip()
    assert facts["darkroom.git_dirty"] == "false"


@pytest.fixture
def reproduce(trained, run_id, tmp_path, monkeypatch):
    """Reproduce the run, as a user does whose Python finds the clone's code and would take other threads."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def reproduce():
        return run_command(trained.root, "reproduce", run_id, PYTHONPATH=str(trained.root / "src"), OMP_NUM_THREADS="2")

    return reproduce


def files(root):
    """Everything of the project, git's own files and the store's included, but for what Python compiles."""
    found = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in found if path.name != "mlflow.db"}


def test_the_same_bits_come_out_and_nothing_of_the_project_changes(trained, reproduce, tmp_path):
    before = files(trained.root)
    client = MlflowClient(f"sqlite:///{trained.root / 'mlflow.db'}")
    runs = len(client.search_runs([client.get_experiment_by_name("darkroom").experiment_id]))

    ended = reproduce()

    assert ended.output.splitlines()[-1] == "Reproduced: the same weights and metrics, bit for bit."
    assert "DIFFERS" not in ended.output
    assert files(trained.root) == before
    assert len(client.search_runs([client.get_experiment_by_name("darkroom").experiment_id])) == runs
    assert client.search_registered_models() == []
    assert list(tmp_path.glob(".darkroom.*")) == []


def test_what_is_temporary_goes_when_it_is_interrupted(reproduce, tmp_path, monkeypatch):
    trainings, communicate = [], subprocess.Popen.communicate

    def interrupted(process, *given, **named):
        if process.args[0] != sys.executable:
            return communicate(process, *given, **named)
        trainings.append(process)
        checkpoints = ".darkroom.*/project/models/checkpoints"
        wait_until(lambda: list(tmp_path.glob(checkpoints)), "the training began", process)
        raise KeyboardInterrupt

    # Ctrl-C, while the command waits for the training, which is a process of its own.
    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    ended = reproduce()

    assert ended.code not in (0, 3)
    assert "Reproduced" not in ended.output
    (training,) = trainings
    assert training.returncode is not None
    assert list(tmp_path.glob(".darkroom.*")) == []
