"""Whether the MLflow store can be used, its files are beside it, and it has received all operations."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from darkroom.commands.doctor.finding import Finding, wrong
from darkroom.config import Config
from darkroom.errors import TrackingError, counted
from darkroom.tracking.database import DAMAGED, LOCKED, check_database, reason_of, unusable
from darkroom.tracking.relocation import check_place, relocate
from darkroom.tracking.spool import REFUSED, Spool
from darkroom.tracking.store import abandoned
from darkroom.tracking.tracker import connect, registry_client
from darkroom.tracking.tracking_uri import check_uri, portable, shown, sqlite_file, store_exists, tracking_uri
from darkroom.workspace import Workspace

AREA = "store"
LOCK_TIMEOUT_SECONDS = 1.0  # for which another program may hold an SQLite file


def check(config: Config, workspace: Workspace) -> Iterator[Finding]:
    """Raises TrackingError for a store that cannot be used, and MlflowException for one that does not respond."""
    address = tracking_uri()
    check_uri(address)
    yield from _spools(config, workspace, address)
    if not store_exists():
        yield Finding(AREA, f"{shown(address)}: not there yet; the first training or `darkroom register` makes it")
        return
    if path := sqlite_file(address):
        yield from _database(path, address, config.tracking.experiment)
    yield from _runs(config, workspace)


def _database(path: Path, address: str, experiment: str) -> Iterator[Finding]:
    try:
        with closing(sqlite3.connect(path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None)) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise unusable(address, DAMAGED)
            connection.execute("BEGIN IMMEDIATE")  # which only one program can at a time
            connection.execute("ROLLBACK")
            try:
                check_place(connection, path)
            except TrackingError as problem:
                yield wrong(AREA, str(problem), lambda: relocate(path))
                return
    except sqlite3.Error as problem:
        raise unusable(address, reason_of(problem) or LOCKED) from None
    check_database(address, experiment)
    yield Finding(AREA, f"{path}: readable and writable; its files are in mlruns beside it")


def _runs(config: Config, workspace: Workspace) -> Iterator[Finding]:
    client = registry_client(workspace)
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    found = abandoned(client, experiment.experiment_id) if experiment else []
    for run in found:
        yield wrong(
            AREA,
            f"run {run.info.run_id}: RUNNING, but its process was killed; `darkroom register` or `dvc repro` ends it",
            lambda: connect(config.tracking, workspace.spools),
        )
    if experiment and not found:
        yield Finding(AREA, f"experiment {experiment.name!r}: no run is left open")


def _spools(config: Config, workspace: Workspace, address: str) -> Iterator[Finding]:
    """The operations that were kept for a store that did not respond."""
    for spool in Spool.left_behind(workspace.spools):
        if not (count := len(spool.pending())):
            continue
        waits = f"{spool.path}: {counted(count, 'message')} for {spool.store} that it has not received"
        if spool.store in (portable(address), shown(address)):
            line = f"{waits}; `darkroom register` or the next stage brings them there"
            yield wrong(AREA, line, lambda: connect(config.tracking, workspace.spools))
        else:
            yield wrong(AREA, f"{waits}; set MLFLOW_TRACKING_URI to it and run `darkroom doctor --fix`")
    for path in sorted(workspace.spools.glob(f"*{REFUSED}")):
        yield wrong(AREA, f"{path}: was refused by its store; delete it if its runs are not needed")
