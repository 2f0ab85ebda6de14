"""All calls of MLflow's tracking API: runs, their metrics and files, and where the models are."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelStatus,
    Metric,
    Param,
    RunStatus,
    RunTag,
    ViewType,
)
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from darkroom.errors import TrackingError, first_line
from darkroom.tracking.database import LOCKED, check_database, deleted_experiment, reason_of, unusable
from darkroom.tracking.relocation import artifact_root, relocate
from darkroom.tracking.runs import ENDED_TAG, PROCESS_TAG, RUN_TAG, Run, begin, origin
from darkroom.tracking.spool import Operation
from darkroom.tracking.tracking_uri import shown, sqlite_file, sqlite_uri
from darkroom.tracking.whole_runs import WholeRun, database_of, known, write
from darkroom.utils.process_id import is_gone
from darkroom.utils.scratch import scratch_directory

# What the experiment is for. MLflow 3.17 does not go by it: the address or the browser chooses what its page shows.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
MAX_PARAMS_A_BATCH = 100
MAX_METRICS_A_BATCH = 1000


class Store:
    """One experiment of a connected MLflow store.

    Its methods wait for the store, and raise MlflowException where it refuses or does not answer. They may be called
    from any one thread at a time.
    """

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self.client = client
        self.experiment_id = experiment_id
        self._ids: dict[str, str] = {}
        self._curves: dict[tuple[str, str], set[int]] = {}

    @classmethod
    def connect(cls, address: str, experiment: str) -> Self:
        """Connect to a store; make it and the experiment if needed.

        Raises TrackingError if the experiment is deleted, or if it is an SQLite file that cannot be used.
        """
        check_database(address, experiment)
        if (path := sqlite_file(address)) and not path.exists():
            _make_database(path)
        client = open_client(address)
        return cls(client, _experiment_id(client, address, experiment))

    def start(self, name: str, kind: str, *, key: str | None = None, parent: str | None = None) -> Run:
        """Start a run that is sent to the store at once; see ``begin``."""
        return begin(self.apply, name, kind, origin(), key=key, parent=parent)

    def run(self, run_id: str) -> Run:
        """An existing run, to log more to it."""
        self._ids[run_id] = run_id
        return Run(run_id, self.apply)

    def apply(self, operation: Operation) -> None:
        """Execute an operation. Repeating one changes nothing."""
        key = operation["run"]
        match operation:
            case {"do": "begin"}:
                self._begin(key, operation)
            case {"do": "params", "params": params}:
                self._log_params(self.id_of(key), params)
            case {"do": "metrics", "points": points}:
                self._log_metrics(self.id_of(key), points)
            case {"do": "tags", "tags": tags}:
                self.client.log_batch(self.id_of(key), tags=[RunTag(*tag) for tag in tags.items()])
            case {"do": "rename", "name": name}:
                self.client.update_run(self.id_of(key), name=name)
            case {"do": "files", "directory": directory, "name": name}:
                # Copies are deleted when all is sent: without them this was not the first time.
                if Path(directory).is_dir():
                    self.client.log_artifacts(self.id_of(key), directory, name)
            case {"do": "dataset", "dataset": dataset, "context": context}:
                used = DatasetInput(Dataset(**dataset), [InputTag("mlflow.data.context", context)])
                self.client.log_inputs(self.id_of(key), [used])
            case {"do": "end", "status": status, "time": time}:
                self.client.set_terminated(self.id_of(key), status, time)
            case _:
                raise AssertionError(f"not an operation: {operation}")

    def add(self, runs: Sequence[WholeRun]) -> None:
        """Write whole runs, in few calls. What the store already has of them is kept."""
        keys = [run.key for run in runs]
        database = database_of(self.client)
        there = known(database, self.experiment_id, keys) if database else {*filter(self._has, keys)}
        for run in runs:
            if run.key in there:
                for operation in run.operations:
                    self.apply(operation)
        new = [run for run in runs if run.key not in there]
        write(self.client, self.experiment_id, new, {run.parent: self.id_of(run.parent) for run in new})

    def _has(self, key: str) -> bool:
        return self.find(RUN_TAG, key) is not None

    def _begin(self, key: str, operation: Operation) -> None:
        found = self.find(RUN_TAG, key)
        if found is None:
            tags = dict(operation["tags"])
            if operation["parent"]:
                tags[MLFLOW_PARENT_RUN_ID] = self.id_of(operation["parent"])
            created = self.client.create_run(self.experiment_id, operation["time"], tags, operation["name"])
            self._ids[key] = created.info.run_id
            return
        self._ids[key] = found
        self.client.update_run(found, "RUNNING")
        self.client.set_tag(found, PROCESS_TAG, operation["tags"][PROCESS_TAG])
        if ENDED_TAG in self.client.get_run(found).data.tags:
            self.client.delete_tag(found, ENDED_TAG)  # of an end that was none

    def _log_params(self, run_id: str, params: dict[str, str]) -> None:
        known = self.client.get_run(run_id).data.params
        new = [Param(name, value) for name, value in params.items() if name not in known]
        for start in range(0, len(new), MAX_PARAMS_A_BATCH):
            self.client.log_batch(run_id, params=new[start : start + MAX_PARAMS_A_BATCH])

    def _log_metrics(self, run_id: str, points: list[list[Any]]) -> None:
        new = [Metric(*point) for point in points if not point[3] or point[3] not in self._curve(run_id, point[0])]
        for start in range(0, len(new), MAX_METRICS_A_BATCH):
            batch = new[start : start + MAX_METRICS_A_BATCH]
            self.client.log_batch(run_id, metrics=batch)
            for metric in batch:
                self._curve(run_id, metric.key).add(metric.step)

    def _curve(self, run_id: str, metric: str) -> set[int]:
        """The steps that a metric has been logged for."""
        if (run_id, metric) not in self._curves:
            self._curves[run_id, metric] = {each.step for each in self.client.get_metric_history(run_id, metric)}
        return self._curves[run_id, metric]

    def id_of(self, key: str) -> str:
        """MLflow's name of the run ``key``. Raises TrackingError if the store does not hold it."""
        if key not in self._ids:
            found = self.find(RUN_TAG, key)
            if found is None:
                raise TrackingError(f"run {key} is not in the MLflow store, or deleted")
            self._ids[key] = found
        return self._ids[key]

    def find(self, tag: str, value: str) -> str | None:
        """The newest run of the experiment whose ``tag`` has ``value``; none if it is deleted."""
        found = self.client.search_runs([self.experiment_id], f"tags.`{tag}` = '{value}'", max_results=1)
        return found[0].info.run_id if found else None

    def end_abandoned(self) -> None:
        """Mark runs KILLED that are ``abandoned``."""
        for run in abandoned(self.client, self.experiment_id):
            self.client.set_tag(run.info.run_id, ENDED_TAG, "process gone")
            self.client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))

    def model_uri(self, run_id: str) -> str:
        """The URI of the model that a run has logged, or "" if it has logged none completely."""
        return newest_model(self.client, self.client.get_run(run_id))


def open_client(address: str) -> MlflowClient:
    """A client of the store, which MLflow's own functions use too from now on."""
    # It logs the traceback of what it raises, and here every error is reported.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    mlflow.set_tracking_uri(address)
    return MlflowClient()


def abandoned(client: MlflowClient, experiment_id: str) -> list[MlflowRun]:
    """The runs whose process, on this machine, is gone: a kill -9 leaves them RUNNING."""
    running = client.search_runs([experiment_id], "attributes.status = 'RUNNING'", ViewType.ACTIVE_ONLY)
    return [run for run in running if is_gone(run.data.tags.get(PROCESS_TAG, ""))]


def newest_model(client: MlflowClient, run: MlflowRun) -> str:
    """The URI of the last model that ``run`` has logged completely, or "" if there is none."""
    # The order in which MLflow lists them says nothing.
    models = [client.get_logged_model(each.model_id) for each in (run.outputs.model_outputs if run.outputs else [])]
    ready = [model for model in models if model.status == LoggedModelStatus.READY]
    return f"models:/{max(ready, key=lambda model: model.creation_timestamp).model_id}" if ready else ""


def does_not_answer(problem: BaseException) -> bool:
    """Whether a store may execute an operation later: it is unreachable or busy, and did not refuse."""
    if isinstance(problem, MlflowException):
        status = problem.get_http_status_code()
        return bool(status >= 500 or status in (requests.codes.request_timeout, requests.codes.too_many_requests))
    return isinstance(problem, requests.RequestException | OperationalError | OSError)


def is_locked(problem: BaseException) -> bool:
    """Whether another program is writing to the SQLite file, or holds it: it will end."""
    return reason_of(problem) == LOCKED


def reason(problem: BaseException) -> str:
    """The first line of what MLflow or the database said, in a few words where it is about the network or the file."""
    if known := reason_of(problem):
        return known
    said = first_line(problem)
    if "timed out" in said or "failed with timeout" in said:
        return "no answer"
    if failed := re.search(r"too many (\d+) error responses", said):
        return f"HTTP {failed[1]}"
    return "no connection" if "Max retries exceeded" in said else said


def explained(problem: Exception, address: str) -> Exception:
    """A problem that a user can fix, as a TrackingError; a bug in Darkroom is not changed."""
    if isinstance(problem, MlflowException) and problem.get_http_status_code() == requests.codes.unauthorized:
        return TrackingError(
            f"MLflow store {shown(address)} does not know this user or password; "
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    is_known = isinstance(problem, MlflowException | SQLAlchemyError | OSError)
    return unusable(address, reason(problem)) if is_known else problem


def _make_database(path: Path) -> None:
    """Create MLflow's tables in a new file, which appears only when complete: MLflow cannot use a part of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_directory(path.parent) as place:
        made = place / path.name
        MlflowClient(sqlite_uri(made)).search_experiments(max_results=1)
        if not path.exists():  # another process may have been quicker
            made.rename(path)
        relocate(path)  # of the experiment that MLflow makes in every store


def _experiment_id(client: MlflowClient, address: str, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # Beside the database: MLflow would take the working directory, which a queued experiment loses.
        path = sqlite_file(address)
        files = artifact_root(path).as_uri() if path else None
        try:
            return client.create_experiment(name, artifact_location=files, tags=EXPERIMENT_TAGS)
        except MlflowException:  # another process may have been quicker
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        raise deleted_experiment(address, name, experiment.experiment_id)
    return experiment.experiment_id
