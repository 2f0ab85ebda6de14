"""A training comes out again, to the last bit, from its own commit, whatever lies in the work tree by then."""

import json
import shutil
import signal
import sys

import pytest
from mlflow import MlflowClient
from tests.wait import SECONDS, wait_until

SETTINGS = {"search__trials": 0, "train__epochs": 2, "model__name": "mlp"}
TRAIN = """
from darkroom.config import load
from darkroom.stages import download, preprocess, search, train
from darkroom.workspace import Workspace

for stage in (download, preprocess, search, train):
    stage.run(load(Workspace().params), Workspace())
"""


@pytest.fixture(scope="module")
def trained(make_clone, empty_store, tmp_path_factory):
    """A clone with a committed training; since then its code is another, and what it holds is not committed."""
    clone = make_clone(tmp_path_factory.mktemp("reproduce"), **SETTINGS)
    shutil.copyfile(empty_store, clone.root / "mlflow.db")
    source = clone.root / "src"
    clone.run(sys.executable, "-c", TRAIN, PYTHONPATH=str(source), OMP_NUM_THREADS="1")

    session = source / "darkroom" / "training" / "session.py"
    code = session.read_text()
    assert "torch.manual_seed(config.train.seed)" in code
    session.write_text(code.replace("torch.manual_seed(config.train.seed)", "torch.manual_seed(config.train.seed + 1)"))
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


def command(*arguments):
    return (sys.executable, "-m", "darkroom", *arguments)


def files(root):
    """Everything of the project, git's own files and the store's included, but for what Python compiles."""
    found = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in found if path.name != "mlflow.db"}


def test_the_same_bits_come_out_and_nothing_of_the_project_changes(trained, run_id, tmp_path):
    before = files(trained.root)
    client = MlflowClient(f"sqlite:///{trained.root / 'mlflow.db'}")
    runs = len(client.search_runs([client.get_experiment_by_name("darkroom").experiment_id]))

    ended = trained.run(
        *command("reproduce", run_id),
        PYTHONPATH=str(trained.root / "src"), OMP_NUM_THREADS="2", TMPDIR=str(tmp_path),
    )  # fmt: skip

    assert ended.stdout.splitlines()[-1] == "Reproduced: the same weights and figures, to the last bit."
    assert "DIFFERS" not in ended.stdout
    assert files(trained.root) == before
    assert len(client.search_runs([client.get_experiment_by_name("darkroom").experiment_id])) == runs
    assert client.search_registered_models() == []
    assert list(tmp_path.glob("darkroom-*")) == []


def test_what_is_temporary_goes_when_it_is_interrupted(trained, run_id, tmp_path):
    reproducing = trained.start(
        *command("reproduce", run_id), PYTHONPATH=str(trained.root / "src"), TMPDIR=str(tmp_path)
    )
    try:
        checkpoints = "darkroom-reproduce-*/project/models/checkpoints"
        wait_until(lambda: list(tmp_path.glob(checkpoints)), "the training began", reproducing)
        reproducing.send_signal(signal.SIGINT)
        said, _ = reproducing.communicate(timeout=SECONDS)
    finally:
        reproducing.kill()
    assert reproducing.returncode not in (0, 3)
    assert "Reproduced" not in said
    assert list(tmp_path.glob("darkroom-*")) == []
