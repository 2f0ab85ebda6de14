"""What every test stands on: a clean environment and small projects in temporary directories."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

# Before anything imports mlflow or onnxruntime: their telemetry reads these once.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"

ROOT = Path(__file__).parents[1]
FOREIGN = ("DARKROOM_MIRROR", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")

Project = Callable[..., Path]
# A small model of digits, in seconds.
QUICK = {"search__trials": 0, "train__epochs": 1, "model__name": "mlp", "model__hidden": [8]}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the person who runs the tests has set must not change them."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def mirror() -> Path | None:
    """A directory with the published archives, if this machine has one."""
    for place in (os.environ.get("DARKROOM_MIRROR"), ROOT.parent / "shared" / "data"):
        if place and (Path(place) / "mnist").is_dir():
            return Path(place)
    return None


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs: creating one takes seconds, copying it none."""
    import mlflow
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    client = MlflowClient(f"sqlite:///{path}")
    client.search_experiments()
    mlflow.set_tracking_uri(None)
    return path


@pytest.fixture(scope="session")
def write_params() -> Callable[..., None]:
    """Write the project's params.yaml to a directory, with changes given as section__key=value."""
    return _write_params


@pytest.fixture
def project(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Make a project in a temporary directory, with params.yaml changed as given, and go there."""

    def make(**changes: object) -> Path:
        _write_params(tmp_path, **changes)
        (tmp_path / "data" / "folder").mkdir(parents=True, exist_ok=True)
        if not (tmp_path / "mlflow.db").exists():
            shutil.copyfile(empty_store, tmp_path / "mlflow.db")
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return make


@pytest.fixture(scope="session")
def evaluated_once(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path, write_params: Callable[..., None]
) -> Path:
    """A directory in which a small model of digits was trained, evaluated and registered."""
    from darkroom.config import load
    from darkroom.stages import download, evaluate, preprocess, search, train
    from darkroom.workspace import Workspace

    root = tmp_path_factory.mktemp("evaluated")
    write_params(root, **QUICK)
    shutil.copyfile(empty_store, root / "mlflow.db")
    with contextlib.chdir(root), pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for stage in (download, preprocess, search, train, evaluate):
            stage.run(load(root / "params.yaml"), Workspace())
    return root


@pytest.fixture
def evaluated(project: Project, evaluated_once: Path) -> Path:
    """A project of one's own with the files of a model that was evaluated, and a store that has not heard of it."""
    root = project(**QUICK)
    for name in ("data/processed", "models", "reports"):
        shutil.copytree(evaluated_once / name, root / name)
    return root


def _write_params(directory: Path, **changes: object) -> None:
    yaml = YAML()
    settings = yaml.load(ROOT / "params.yaml")
    for name, value in changes.items():
        section, _, key = name.partition("__")
        settings[section][key] = value
    yaml.dump(settings, directory / "params.yaml")
