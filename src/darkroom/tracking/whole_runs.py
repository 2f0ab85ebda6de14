"""Write runs that ended before they were sent to the store: each in one call, many in one database transaction.

A search may have a thousand short trials. Sent one operation at a time, each run costs a database eight
transactions and 60 ms of CPU time; two hundred together cost one transaction, and each less than a millisecond.
MLflow's public interface writes one run at a time, so this module uses MLflow's tables and its SqlAlchemyStore.
"""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, Param, SourceType
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME, MLFLOW_USER
from mlflow.utils.uri import append_to_uri_path
from sqlalchemy import insert, select

from darkroom.tracking.runs import RUN_TAG
from darkroom.tracking.spool import Operation

# Texts up to this length go into every column as they are.
MAX_TEXT = 250
# As many as MLflow takes of a run in one call.
MAX_METRICS = 900
MAX_PARAMS = 90
MAX_TAGS = 90
SIMPLE = {"begin", "params", "metrics", "tags", "rename", "end"}


@dataclass
class WholeRun:
    """Everything that was logged to a run. ``points`` are [name, value, milliseconds, step] each."""

    operations: Sequence[Operation]
    key: str
    name: str
    parent: str
    start: int
    end: int = 0
    status: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: list[list[Any]] = field(default_factory=list)

    @classmethod
    def of(cls, operations: Sequence[Operation]) -> Self | None:
        """The run of these operations; None if it is incomplete, or has operations that cannot be written together."""
        first = operations[0]
        kinds = [operation["do"] for operation in operations]
        is_whole = kinds[0] == "begin" and kinds[-1] == "end" and kinds.count("begin") == kinds.count("end") == 1
        if not is_whole or not first["parent"] or not SIMPLE.issuperset(kinds):
            return None
        run = cls(operations, first["run"], first["name"], first["parent"], first["time"], tags=dict(first["tags"]))
        for operation in operations[1:]:
            run._take(operation)
        return run if run._is_plain() else None

    def _take(self, operation: Operation) -> None:
        match operation:
            case {"do": "params", "params": params}:
                self.params = params | self.params  # the first value stays
            case {"do": "metrics", "points": points}:
                self.points += points
            case {"do": "tags", "tags": tags}:
                self.tags |= tags
            case {"do": "rename", "name": name}:
                self.name = name
            case {"do": "end", "status": status, "time": time}:
                self.status, self.end = status, time

    def _is_plain(self) -> bool:
        texts = [self.name, *self.params, *self.params.values(), *self.tags, *self.tags.values()]
        return (
            all(len(text) <= MAX_TEXT for text in texts)
            and len(self.points) <= MAX_METRICS
            and len(self.params) <= MAX_PARAMS
            and len(self.tags) <= MAX_TAGS
            # Metrics of a model or a dataset have more than four parts; those of step 0 may be given twice.
            and all(len(point) == 4 and point[3] for point in self.points)
            and len({(point[0], point[3]) for point in self.points}) == len(self.points)
        )


def whole_runs(operations: Iterable[Operation]) -> list[WholeRun]:
    """The runs below another one that begin and end in ``operations``, in the order of their beginnings.

    All of them can be written at the place of the first one's beginning: a run whose parent begins later is not among
    them.
    """
    by_run: dict[str, list[Operation]] = {}
    for operation in operations:
        by_run.setdefault(operation["run"], []).append(operation)
    found: list[WholeRun] = []
    too_late: set[str] = set()
    for key, of_run in by_run.items():
        run = WholeRun.of(of_run)
        if run and run.parent not in too_late:
            found.append(run)
        elif found:
            too_late.add(key)
    return found


def write(client: MlflowClient, experiment_id: str, runs: Sequence[WholeRun], parents: Mapping[str, str]) -> None:
    """Write runs that the store does not have; ``parents`` {key: MLflow's name} has the runs above them."""
    database = database_of(client)
    if database is not None:
        _insert(database, experiment_id, runs, parents)
        return
    for run in runs:
        tags = run.tags | {MLFLOW_PARENT_RUN_ID: parents[run.parent]}
        run_id = client.create_run(experiment_id, run.start, tags, run.name).info.run_id
        metrics = [Metric(*point) for point in run.points]
        client.log_batch(run_id, metrics, [Param(*param) for param in run.params.items()])
        client.set_terminated(run_id, run.status, run.end)


def database_of(client: MlflowClient) -> SqlAlchemyStore | None:
    """The store as MLflow's SqlAlchemyStore; None if it is a server or a directory."""
    store = client._tracking_client.store
    return store if isinstance(store, SqlAlchemyStore) else None


def known(database: SqlAlchemyStore, experiment_id: str, keys: Collection[str]) -> set[str]:
    """Those of ``keys`` that name a run of the experiment."""
    tag, run = SqlTag.__table__.c, SqlRun.__table__.c
    query = (
        select(tag.value)
        .join(SqlRun.__table__, run.run_uuid == tag.run_uuid)
        .where(tag.key == RUN_TAG, tag.value.in_(keys))
        .where(run.experiment_id == int(experiment_id), run.lifecycle_stage == LifecycleStage.ACTIVE)
    )
    with database.ManagedSessionMaker() as session:
        return set(session.scalars(query))


def _insert(
    database: SqlAlchemyStore, experiment_id: str, runs: Sequence[WholeRun], parents: Mapping[str, str]
) -> None:
    root = database.get_experiment(experiment_id).artifact_location
    tables = (SqlRun, SqlTag, SqlParam, SqlMetric, SqlLatestMetric)
    rows: dict[Any, list[dict[str, Any]]] = {table: [] for table in tables}
    for run in runs:
        run_id = uuid.uuid4().hex
        rows[SqlRun].append(
            {
                "run_uuid": run_id,
                "name": run.name,
                "experiment_id": int(experiment_id),
                "artifact_uri": append_to_uri_path(root, run_id, SqlAlchemyStore.ARTIFACTS_FOLDER_NAME),
                "user_id": run.tags.get(MLFLOW_USER, "unknown"),
                "status": run.status,
                "start_time": run.start,
                "end_time": run.end,
                "source_type": SourceType.to_string(SourceType.UNKNOWN),
                "source_name": "",
                "entry_point_name": "",
                "source_version": "",
                "lifecycle_stage": LifecycleStage.ACTIVE,
            }
        )
        tags = run.tags | {MLFLOW_PARENT_RUN_ID: parents[run.parent], MLFLOW_RUN_NAME: run.name}
        rows[SqlTag] += [{"run_uuid": run_id, "key": key, "value": value} for key, value in tags.items()]
        rows[SqlParam] += [{"run_uuid": run_id, "key": key, "value": value} for key, value in run.params.items()]
        latest: dict[str, dict[str, Any]] = {}
        for name, number, time, step in run.points:
            is_nan, value = database.sanitize_metric_value(number)
            row = {"run_uuid": run_id, "key": name, "value": value, "timestamp": time, "step": step, "is_nan": is_nan}
            rows[SqlMetric].append(row)
            if name not in latest or latest[name]["step"] < step:
                latest[name] = row
        rows[SqlLatestMetric] += latest.values()
    with database.ManagedSessionMaker(read_only=False) as session:
        for table, of_table in rows.items():
            if of_table:
                session.execute(insert(table.__table__), of_table)
