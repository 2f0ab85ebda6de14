"""What every test stands on: a clean environment and small projects in temporary directories."""

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from tests import defaults
from tests.stages import run_stages
from tests.store import copy_store, hasten_databases

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# What users have set for themselves must not change the tests. A mirror and a device are asked for.
MIRROR = os.environ.get("DARKROOM_MIRROR")
TEST_DEVICE = os.environ.get("DARKROOM_TEST_DEVICE", "cpu")
FOREIGN = ("AWS_", "DARKROOM_", "DVC_", "FSSPEC_", "GIT_", "MLFLOW_", "OPTUNA_", "PG", "RAY_")
OURS = {
    # Before anything imports mlflow or onnxruntime: their telemetry reads these once.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # As the command line sets them: a server that is away is told of at once.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # four processes for its features for language models
    "DVC_NO_ANALYTICS": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray would run its workers behind everything else, here behind the tests of the other process.
    "RAY_worker_niceness": "0",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    # Before anything imports torch: several processes test at once, and threads that wait for a core of another
    # process take many times as long as one thread alone.
    "OMP_NUM_THREADS": "1",
}
for _name in [name for name in os.environ if name.startswith(FOREIGN)]:
    del os.environ[_name]
os.environ.update(OURS)

pytest_plugins = ["tests.plugin"]

Project = Callable[..., Path]
Darkroom = Callable[..., tuple[int, str, str]]
# A small model of digits, in seconds.
QUICK = {"search__trials": 0, "train__epochs": 1, "model__name": "mlp", "model__hidden": [8]}


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What was measured for the tests alone, by all their processes."""
    place = tmp_path_factory.getbasetemp()
    OURS["DARKROOM_CACHE"] = str((place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / "cache")
    os.environ["DARKROOM_CACHE"] = OURS["DARKROOM_CACHE"]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What MLflow has set while another test ran."""
    if "mlflow" in sys.modules:  # many tests do without it
        sys.modules["mlflow"].set_tracking_uri(None)
    for name in [name for name in os.environ if name.startswith(FOREIGN) and name not in OURS]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _hasty_databases() -> None:
    if "mlflow.store.db.utils" in sys.modules:  # many tests do without it
        hasten_databases()


@pytest.fixture(scope="session", autouse=True)
def blank_figures() -> Iterator[Callable[..., None]]:
    """Figures are made, but a white dot is written: drawing them takes half of what many tests take.

    Gives what really writes one; see ``drawn``.
    """
    from darkroom import plotting

    write = plotting.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plotting, "save", lambda figure, path: Image.new("L", (1, 1), 255).save(path))
        yield write


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, blank_figures: Callable[..., None]) -> None:
    """Figures are drawn, for tests that look at them."""
    monkeypatch.setattr("darkroom.plotting.save", blank_figures)


@pytest.fixture(scope="session")
def long(pytestconfig: pytest.Config) -> bool:
    """Whether there is time, as in `make test-long`: then tests take more cases."""
    return bool(pytestconfig.getoption("--long"))


@pytest.fixture(scope="session")
def mirror() -> Path | None:
    """A directory with the published archives, if this machine has one."""
    for place in (MIRROR, defaults.ROOT.parent / "shared" / "data"):
        if place and (Path(place) / "mnist").is_dir():
            return Path(place)
    return None


@pytest.fixture(scope="session")
def prepare_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Give a directory that is filled once for all processes of pytest-xdist. Tests copy it, and leave it as it is."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent

    def prepare(name: str, fill: Callable[[Path], None]) -> Path:
        directory, is_filled = place / name, place / f"{name}.filled"
        with (place / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_filled.exists():
                shutil.rmtree(directory, ignore_errors=True)
                directory.mkdir()
                fill(directory)
                is_filled.touch()
        return directory

    return prepare


@pytest.fixture(scope="session")
def empty_store(prepare_once: Callable[..., Path]) -> Path:
    """An MLflow database without runs: creating one takes seconds, copying it none."""

    def fill(directory: Path) -> None:
        import mlflow
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{directory / 'mlflow.db'}")
        client.search_experiments()
        mlflow.set_tracking_uri(None)

    return prepare_once("store", fill) / "mlflow.db"


@pytest.fixture(scope="session")
def write_params() -> Callable[..., None]:
    """Write a fresh clone's params.yaml to a directory, with changes given as section__key=value."""
    return defaults.write_params


@pytest.fixture
def project(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Make a project in a temporary directory, with params.yaml changed as given, and go there."""

    def make(**changes: object) -> Path:
        defaults.write_params(tmp_path, **changes)
        (tmp_path / "data" / "folder").mkdir(parents=True, exist_ok=True)
        if not (tmp_path / "mlflow.db").exists():
            shutil.copyfile(empty_store, tmp_path / "mlflow.db")
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return make


@pytest.fixture
def darkroom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Darkroom:
    """Run a command line in this process; gives its exit code, standard output and standard error."""
    from darkroom.cli import main as cli

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["darkroom", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def evaluated_once(prepare_once: Callable[..., Path], empty_store: Path, write_params: Callable[..., None]) -> Path:
    """A directory in which a small model of digits was trained, evaluated and registered."""

    def fill(root: Path) -> None:
        write_params(root, **QUICK)
        shutil.copyfile(empty_store, root / "mlflow.db")
        run_stages(root)

    return prepare_once("evaluated", fill)


@pytest.fixture
def evaluated(project: Project, evaluated_once: Path) -> Path:
    """A project of one's own with the files of a model that was evaluated, and a store that has not heard of it."""
    root = project(**QUICK)
    for name in ("data/processed", "models", "reports"):
        shutil.copytree(evaluated_once / name, root / name)
    return root


@pytest.fixture
def registered(evaluated: Path, evaluated_once: Path) -> "tuple[MlflowClient, ModelVersion]":
    """The client of a store in which the model of ``evaluated`` is champion and challenger, and its version."""
    from darkroom.config import load
    from darkroom.promotion.registry import champion
    from darkroom.tracking.tracker import connect
    from darkroom.workspace import Workspace

    copy_store(evaluated_once, evaluated)
    config = load(evaluated / "params.yaml")
    client = connect(config.tracking, Workspace().spools).client
    return client, champion(client, config.registered_model)
