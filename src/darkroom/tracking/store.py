"""Everything MLflow's tracking API is asked: runs, their figures and files, and the models they made."""

import copy
import json
import os
import platform
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import mlflow
import mlflow.pytorch
import numpy as np
import psutil
import torch
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types.schema import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID, MLFLOW_SOURCE_NAME, MLFLOW_USER
from mlflow.utils.time import get_current_time_millis
from sqlalchemy.exc import SQLAlchemyError

from darkroom.data.cache import DatasetCard
from darkroom.errors import TrackingError
from darkroom.interruption import held_back
from darkroom.models.classifier import Classifier
from darkroom.models.files import ModelCard
from darkroom.settings import Tracking

SQLITE = "sqlite:///"
DEFAULT_STORE = "mlflow.db"
ARTIFACTS = "mlruns"
PROCESS_TAG = "darkroom.process"
ENDED_TAG = "darkroom.ended"
KIND_TAG = "darkroom.kind"
WEIGHTS_TAG = "darkroom.weights_sha256"
FINGERPRINT_TAG = "darkroom.fingerprint"
MODEL_NAME = "model"
# Shows the experiment with MLflow's page for model training instead of the one for language models.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
MAX_PARAMS_A_BATCH = 100
EXAMPLE_IMAGES = 4


class Run:
    """A run that is being written, as a context: it never stays RUNNING.

    Leaving the block ends it FINISHED; an exception ends it FAILED with its first line as the tag
    ``darkroom.ended``; Ctrl-C and termination end it KILLED.
    """

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client = client
        self.id = run_id

    def __enter__(self) -> Self:
        return self

    @held_back()
    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if problem is None:
            self.client.set_terminated(self.id, "FINISHED")
            return
        status = "FAILED" if isinstance(problem, Exception) else "KILLED"
        reason = str(problem).partition("\n")[0] or type(problem).__name__
        self.client.set_tag(self.id, ENDED_TAG, reason)
        self.client.set_terminated(self.id, status)

    @held_back()
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings; one that the run already has keeps its value."""
        known = self.client.get_run(self.id).data.params
        new = [Param(key, _text(value)) for key, value in params.items() if key not in known]
        for start in range(0, len(new), MAX_PARAMS_A_BATCH):
            self.client.log_batch(self.id, params=new[start : start + MAX_PARAMS_A_BATCH])

    @held_back()
    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        now = get_current_time_millis()
        self.client.log_batch(self.id, metrics=[Metric(key, value, now, step) for key, value in metrics.items()])

    @held_back()
    def log_tags(self, tags: Mapping[str, Any]) -> None:
        self.client.log_batch(self.id, tags=[RunTag(key, _text(value)) for key, value in tags.items()])

    @held_back()
    def log_directory(self, directory: Path, name: str) -> None:
        """Log every file below ``directory`` as artifacts below ``name``."""
        self.client.log_artifacts(self.id, str(directory), name)

    @held_back()
    def log_dataset(self, card: DatasetCard, context: str) -> None:
        """Log the dataset as the run's input, under its fingerprint."""
        dataset = Dataset(
            name=card.name,
            digest=card.fingerprint[:36],  # as long as MLflow stores it
            source_type="local",
            source=json.dumps({"fingerprint": card.fingerprint}),
            schema=json.dumps({"shape": card.shape, "dtype": "uint8", "classes": card.classes}),
            profile=json.dumps(card.sizes),
        )
        self.client.log_inputs(self.id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def last_step(self, metric: str) -> int:
        """The last step a metric was logged for; 0 if it never was."""
        return max((point.step for point in self.client.get_metric_history(self.id, metric)), default=0)

    @held_back()
    def log_model(self, classifier: Classifier, card: ModelCard, example: np.ndarray[Any, Any]) -> None:
        """Log the model as exported graph and weights (pt2), which loads without pickle.

        ``example`` uint8 [n, C, H, W] holds two images or more: from one alone the export would take the
        batch for fixed.
        """
        assert len(example) > 1, "an example of one image would fix the batch size to 1"
        data = card.dataset_card
        signature = ModelSignature(
            Schema([TensorSpec(np.dtype("uint8"), (-1, *data.shape))]),
            Schema([TensorSpec(np.dtype("float32"), (-1, len(data.classes)))]),
        )
        # MLflow logs models to the active run only. Requirements are given because inferring them
        # loads the model in another process and takes a dozen seconds.
        with mlflow.start_run(run_id=self.id, nested=True):
            mlflow.pytorch.log_model(
                copy.deepcopy(classifier).to(memory_format=torch.contiguous_format),
                name=MODEL_NAME,
                serialization_format="pt2",
                signature=signature,
                input_example=example,
                pip_requirements=[f"{name}=={_version(name)}" for name in ("torch", "mlflow", "numpy")],
                metadata={
                    "classes": list(data.classes),
                    "shape": list(data.shape),
                    "mean": list(data.mean),
                    "fingerprint": data.fingerprint,
                },
            )
        self.client.update_run(self.id, "RUNNING")


class Store:
    """A connected MLflow store and the experiment in it."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self.client = client
        self.experiment_id = experiment_id

    @held_back()
    def start(self, name: str, kind: str, *, parent: str | None = None) -> Run:
        """Start a run. Without a ``parent`` it belongs to the project run of `mlflow run`, if there is one."""
        tags = {
            KIND_TAG: kind,
            PROCESS_TAG: _this_process(),
            MLFLOW_USER: _user(),
            MLFLOW_SOURCE_NAME: f"darkroom {kind}",
            **_code_version(),
        }
        parent = parent or os.environ.get("MLFLOW_RUN_ID")
        if parent:
            tags[MLFLOW_PARENT_RUN_ID] = parent
        created = self.client.create_run(self.experiment_id, run_name=name, tags=tags)
        return Run(self.client, created.info.run_id)

    @held_back()
    def resume(self, run_id: str | None) -> Run | None:
        """Go on with a run of this store; None if it is not there."""
        if run_id is None or not self.holds(run_id):
            return None
        run = Run(self.client, run_id)
        self.client.update_run(run_id, "RUNNING")
        run.log_tags({PROCESS_TAG: _this_process()})
        if ENDED_TAG in self.client.get_run(run_id).data.tags:
            self.client.delete_tag(run_id, ENDED_TAG)  # of an end that was none
        return run

    def holds(self, run_id: str) -> bool:
        """Whether the run is there and not deleted."""
        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as problem:
            if problem.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def find(self, tag: str, value: str) -> str | None:
        """The newest run of the experiment whose ``tag`` has ``value``."""
        found = self.client.search_runs([self.experiment_id], f"tags.`{tag}` = '{value}'", max_results=1)
        return found[0].info.run_id if found else None

    @held_back()
    def end_abandoned(self) -> None:
        """Mark runs KILLED whose process, on this machine, is gone: a kill -9 leaves them RUNNING."""
        running = self.client.search_runs([self.experiment_id], "attributes.status = 'RUNNING'", ViewType.ACTIVE_ONLY)
        for run in running:
            if _is_gone(run.data.tags.get(PROCESS_TAG, "")):
                self.client.set_tag(run.info.run_id, ENDED_TAG, "process gone")
                self.client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))

    def model_uri(self, run_id: str) -> str:
        """Where the model that a run has logged lies, or "" if it has logged none."""
        outputs = self.client.get_run(run_id).outputs
        models = outputs.model_outputs if outputs else []
        return f"models:/{models[-1].model_id}" if models else ""


def connect(settings: Tracking) -> Store:
    """Connect to MLFLOW_TRACKING_URI, else to mlflow.db in the project's root; make the experiment if needed.

    Runs that a killed process of this machine has left behind are ended. Raises TrackingError if the
    store cannot be reached.
    """
    address = store_address()
    is_new = not store_exists()
    mlflow.set_tracking_uri(address)
    try:
        client = MlflowClient()
        store = Store(client, _experiment_id(client, settings.experiment))
        store.end_abandoned()
    except (MlflowException, SQLAlchemyError) as problem:
        if is_new:  # half-made: the next attempt would stumble over its tables
            Path(address.removeprefix(SQLITE)).unlink(missing_ok=True)
        first_line = str(problem).partition("\n")[0]
        reason = "no connection" if "Max retries exceeded" in first_line else first_line
        raise TrackingError(
            f"MLflow store {address} cannot be used ({reason}); start the server or set MLFLOW_TRACKING_URI to another"
        ) from None
    return store


def _experiment_id(client: MlflowClient, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # Beside the database: MLflow would take the working directory, which a queued experiment loses.
        files = (_project_root() / ARTIFACTS).as_uri() if store_address() == _default_address() else None
        return client.create_experiment(name, artifact_location=files, tags=EXPERIMENT_TAGS)
    if experiment.lifecycle_stage != "active":
        raise TrackingError(f"MLflow experiment {name!r} is deleted; restore it or change tracking.experiment")
    return experiment.experiment_id


def store_address() -> str:
    """MLFLOW_TRACKING_URI, else the SQLite file in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _default_address()


def _default_address() -> str:
    return f"{SQLITE}{_project_root() / DEFAULT_STORE}"


def store_exists() -> bool:
    """Whether there is a store to look into; of one that is not a local file only connecting tells."""
    address = store_address()
    return not address.startswith(SQLITE) or Path(address.removeprefix(SQLITE)).exists()


def _project_root() -> Path:
    """The root of the checkout, also from inside the copy that `dvc exp run --queue` makes below .dvc/tmp."""
    here = Path.cwd().resolve()
    outside = [parent.parent for parent in (here, *here.parents) if parent.name == ".dvc"]
    return outside[-1] if outside else here


def system_facts(device: torch.device, precision: str) -> dict[str, Any]:
    """What a run was made with: device, threads, precision and versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "system.device": device.type,
        "system.device_name": name,
        "system.precision": precision,
        "system.threads": torch.get_num_threads(),
        "system.cpu_count": os.cpu_count(),
        "system.memory_bytes": psutil.virtual_memory().total,
        "system.platform": platform.platform(),
        "system.python": platform.python_version(),
        **{f"system.{name}": _version(name) for name in ("torch", "torchvision", "mlflow", "numpy", "darkroom")},
    }


def epoch_metrics(epoch: Mapping[str, Any]) -> dict[str, float]:
    """The fields of ``EpochMetrics`` under their names in MLflow."""
    return {
        "train/loss": epoch["train_loss"],
        "train/accuracy": epoch["train_accuracy"],
        "val/loss": epoch["val_loss"],
        "val/accuracy": epoch["val_accuracy"],
        "train/lr": epoch["lr"],
        "train/epoch_seconds": epoch["seconds"],
    }


def log_training(
    run: Run,
    classifier: Classifier,
    card: ModelCard,
    history: Sequence[Mapping[str, Any]],
    reports: Iterable[Path],
    example: np.ndarray[Any, Any],
) -> None:
    """Log what a finished training has left on disk: figures that are missing, files, data and the model.

    The same whether the run was open during the training or is rebuilt from the files.
    """
    run.log_params(
        {f"{section}.{key}": value for section, keys in card.settings.items() for key, value in keys.items()}
    )
    run.log_tags({WEIGHTS_TAG: card.weights_sha256, FINGERPRINT_TAG: card.dataset_card.fingerprint, **card.facts})
    logged = run.last_step("val/loss")
    for epoch in history[logged:]:
        run.log_metrics(epoch_metrics(epoch), step=int(epoch["epoch"]))
    run.log_metrics({f"best/{key}": card.best_epoch[key] for key in ("epoch", "val_accuracy", "val_loss")})
    for directory in reports:
        run.log_directory(directory, directory.name)
    run.log_dataset(card.dataset_card, "training")
    run.log_model(classifier, card, example)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def _this_process() -> str:
    """Host, process id and start time: together they name a process for good, an id alone is used again."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def _is_gone(process: str) -> bool:
    host, _, rest = process.rpartition(":")[0].rpartition(":")
    if host != socket.gethostname():
        return False  # another machine's, or not ours: nothing is known about it
    try:
        return f"{psutil.Process(int(rest)).create_time():.0f}" != process.rpartition(":")[2]
    except psutil.NoSuchProcess:
        return True


def _user() -> str:
    try:
        return psutil.Process().username()
    except (KeyError, psutil.Error):  # an id without a name, as in some containers
        return str(os.getuid())


def _code_version() -> dict[str, str]:
    """The git commit and whether tracked files differ from it; empty outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        dirty = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {MLFLOW_GIT_COMMIT: commit, "darkroom.git_dirty": _text(bool(dirty))}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
