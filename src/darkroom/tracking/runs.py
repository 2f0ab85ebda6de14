"""The operations on a run. A spool stores them, or a store executes them."""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from darkroom.data.cache import DatasetCard
from darkroom.errors import first_line
from darkroom.models.card import ModelCard
from darkroom.tracking.environment import code_version, user
from darkroom.tracking.spool import Operation
from darkroom.utils.process_id import this_process
from darkroom.utils.signals import held_back

RUN_TAG = "darkroom.run"
PROCESS_TAG = "darkroom.process"
ENDED_TAG = "darkroom.ended"
KIND_TAG = "darkroom.kind"
WEIGHTS_TAG = "darkroom.weights_sha256"
FINGERPRINT_TAG = "darkroom.fingerprint"
# SHA-256 of the weights that a training began with, where they were given.
START_TAG = "darkroom.start_sha256"
# SHA-256 of reports/evaluate/predictions.csv, reference.json and robustness.json, and of the file that MLflow loads the
# model from.
PREDICTIONS_TAG = "darkroom.predictions_sha256"
REFERENCE_TAG = "darkroom.reference_sha256"
ROBUSTNESS_TAG = "darkroom.robustness_sha256"
MODEL_TAG = "darkroom.model_sha256"
# What MLflow shows as the description of a run or a logged model.
NOTE_TAG = "mlflow.note.content"
# Ends an address of MLflow's page. Without it the page is the one for language models, unless the browser remembers
# that somebody has chosen "Model training" there: MLflow 3.17 does not go by what the experiment says of itself.
MODEL_TRAINING = "?workflowType=machine_learning"
# Of a model's input, as few as an export takes: MLflow writes them as JSON, 3 MB for a photograph of 224 pixels.
EXAMPLE_IMAGES = 2


class Run:
    """A run that is being written, as a context: it never stays RUNNING.

    Leaving the block ends it FINISHED; an exception ends it FAILED with its first line as the tag
    ``darkroom.ended``; Ctrl-C and termination end it KILLED. ``key`` is its name in the tag ``darkroom.run``:
    MLflow's own would have to be waited for. ``send`` takes the operations.
    """

    def __init__(self, key: str, send: Callable[[Operation], None]) -> None:
        self.key = key
        self._take = send

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if problem is None:
            self._send("end", status="FINISHED", time=_now())
            return
        status = "FAILED" if isinstance(problem, Exception) else "KILLED"
        self.log_tags({ENDED_TAG: first_line(problem)})
        self._send("end", status=status, time=_now())

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings; one that the run already has keeps its value."""
        self._send("params", params={key: _text(value) for key, value in params.items()})

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics; at a ``step`` above 0, a point that is already logged is kept."""
        now = _now()
        self._send("metrics", points=[[key, value, now, step] for key, value in metrics.items()])

    def log_test(self, metrics: Mapping[str, float], card: DatasetCard, model_id: str | None) -> None:
        """Log metrics of the test split, also on the logged model ``model_id``, with the dataset."""
        now = _now()
        on = [model_id, card.name, _digest(card)]
        self._send("metrics", points=[[f"test/{key}", value, now, 0, *on] for key, value in metrics.items()])

    def rename(self, name: str) -> None:
        self._send("rename", name=name)

    def log_tags(self, tags: Mapping[str, Any]) -> None:
        self._send("tags", tags={key: _text(value) for key, value in tags.items()})

    def log_directory(self, directory: Path, name: str) -> None:
        """Log every file below ``directory`` as artifacts below ``name``."""
        self._send("files", directory=str(directory), name=name)

    def log_dataset(self, card: DatasetCard, context: str) -> None:
        """Log the dataset as the run's input, under its fingerprint."""
        self._send(
            "dataset",
            context=context,
            dataset={
                "name": card.name,
                "digest": _digest(card),
                "source_type": "local",
                "source": json.dumps({"fingerprint": card.fingerprint}),
                "schema": json.dumps({"shape": card.shape, "dtype": "uint8", "classes": card.classes}),
                "profile": json.dumps(card.sizes),
            },
        )

    @held_back()
    def _send(self, do: str, **what: Any) -> None:
        self._take({"do": do, "run": self.key, **what})


def origin() -> dict[str, str]:
    """Tags with the user, the process and the code of a run that begins now."""
    return {PROCESS_TAG: this_process(), "mlflow.user": user(), **code_version()}


def begin(
    send: Callable[[Operation], None],
    name: str,
    kind: str,
    begun_by: Mapping[str, str],
    *,
    key: str | None = None,
    parent: str | None = None,
) -> Run:
    """Start the run ``key``, or resume it if it exists; without a key, a new one. ``begun_by`` is its ``origin``.

    ``parent`` is the key of the run above it. A run without one belongs to the project run of `mlflow run`, if there
    is one.
    """
    run = Run(key or uuid.uuid4().hex, send)
    # The names below mlflow. are those that MLflow documents and shows in columns of their own.
    tags = {
        RUN_TAG: run.key,
        KIND_TAG: kind,
        "mlflow.source.name": f"darkroom {kind}",
        **begun_by,
    }
    project_run = os.environ.get("MLFLOW_RUN_ID")
    if project_run and not parent:
        tags["mlflow.parentRunId"] = project_run
    with held_back():
        send({"do": "begin", "run": run.key, "name": name, "parent": parent, "time": _now(), "tags": tags})
    return run


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


def log_training(run: Run, card: ModelCard, cost: Mapping[str, float], reports: Iterable[Path]) -> None:
    """Log the files of a finished training, except its epochs and its model.

    ``cost`` is what tracking took of it: ``seconds``, and their ``share`` of the training's.
    """
    run.log_params(
        {f"{section}.{key}": value for section, keys in card.settings.items() for key, value in keys.items()}
    )
    run.log_tags({WEIGHTS_TAG: card.weights_sha256, FINGERPRINT_TAG: card.dataset_card.fingerprint, **card.facts})
    run.log_metrics({f"best/{key}": card.best_epoch[key] for key in ("epoch", "val_accuracy", "val_loss")})
    run.log_metrics({f"tracking/{key}": value for key, value in cost.items()})
    for directory in reports:
        run.log_directory(directory, directory.name)
    run.log_dataset(card.dataset_card, "training")


def _digest(card: DatasetCard) -> str:
    """The fingerprint, as long as MLflow stores it."""
    return card.fingerprint[:36]


def _now() -> int:
    """Milliseconds, as MLflow counts."""
    return time.time_ns() // 1_000_000


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
