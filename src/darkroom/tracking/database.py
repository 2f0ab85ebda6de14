"""Check that an SQLite store can be used, before work begins and without importing MLflow."""

import os
import re
import shlex
import sqlite3
from contextlib import closing
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import psutil

from darkroom.errors import TrackingError
from darkroom.tracking.relocation import check_place
from darkroom.tracking.tracking_uri import shown, sqlite_file

LOCKED = "locked"
READ_ONLY = "read-only"
DAMAGED = "damaged"
# What SQLite says, whichever library passes it on.
SAID = {
    LOCKED: ("database is locked", "database table is locked"),
    READ_ONLY: ("readonly database",),
    DAMAGED: ("file is not a database", "disk image is malformed"),
}
# Seconds that a command waits at its start for a process that is writing.
LOCK_TIMEOUT_SECONDS = 1.0
REVISION = re.compile(r'^(down_)?revision = "(\w+)"', re.MULTILINE)


def check_database(address: str, experiment: str | None = None) -> None:
    """Refuse an SQLite store that cannot be used, or whose files are elsewhere; other stores report that themselves.

    With ``experiment`` it is to be written to, and that experiment must not be deleted. A store that is
    locked at the moment passes: later calls wait longer. Raises TrackingError.
    """
    path = sqlite_file(address)
    if path is None or not path.exists():
        return
    if not path.is_file() or not os.access(path, os.R_OK):
        raise TrackingError(f"MLflow store {path}: {'cannot be read' if path.is_file() else 'is not a file'}")
    if experiment is not None and not all(os.access(place, os.W_OK) for place in (path, path.parent)):
        raise unusable(address, READ_ONLY)
    try:
        # Also to read, it must be able to undo what a killed process has begun to write.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", timeout=LOCK_TIMEOUT_SECONDS, uri=True)) as connection:
            if not _holds(connection, "alembic_version"):
                return  # empty: MLflow makes its tables
            _check_schema(connection, address, path)
            check_place(connection, path)
            if experiment is not None:
                _check_experiment(connection, address, experiment)
    except sqlite3.Error as problem:
        if (reason := reason_of(problem) or str(problem)) != LOCKED:
            raise unusable(address, reason) from None


def reason_of(problem: BaseException) -> str | None:
    """The kind of an SQLite problem in a word, whichever library reports it; None if it is of another kind."""
    text = str(problem)
    return next((word for word, said in SAID.items() if any(each in text for each in said)), None)


def unusable(address: str, reason: str) -> TrackingError:
    """The error message for a store that cannot be used for this reason: what is wrong, and what to do."""
    path = sqlite_file(address)
    remedy = _remedy(path, reason) if path else "start the server or set MLFLOW_TRACKING_URI to another"
    return TrackingError(f"MLflow store {shown(address)} cannot be used ({reason}); {remedy}")


def deleted_experiment(address: str, name: str, experiment_id: str) -> TrackingError:
    where = f"MLFLOW_TRACKING_URI={shlex.quote(shown(address))}"
    return TrackingError(
        f"MLflow experiment {name!r} is deleted; `{where} mlflow experiments restore --experiment-id {experiment_id}` "
        "restores it, or name another one in tracking.experiment"
    )


def _remedy(path: Path, reason: str) -> str:
    name = shlex.quote(str(path))
    match reason:
        case "locked":
            return f"{_holders(path)}: nothing is lost, run the command again when it has ended"
        case "read-only":
            if os.statvfs(path).f_flag & os.ST_RDONLY:
                return "its file system is mounted read-only: mount it to be written, or copy the project elsewhere"
            return f"`chmod u+w {name} {shlex.quote(str(path.parent))}` as its owner, {_owner(path)}, allows it"
        case "damaged":
            aside = shlex.quote(f"{path}.damaged")
            return (
                f"put a copy from before back, or `mv {name} {aside}` (keep it): the next command then makes a new "
                "one, and `darkroom register` brings the model in the working tree there"
            )
        case _:
            return "MLFLOW_TRACKING_URI names another"


def _holders(path: Path) -> str:
    """The other programs that have the file open, as far as this user may see them."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and str(path) in {opened.path for opened in process.open_files()}:
                found.append(f"{process.name()} (process {process.pid})")
        except psutil.Error:
            continue
    return f"{', '.join(found)} may hold it" if found else "another program holds it, such as `mlflow ui` or an editor"


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}"


def _holds(connection: sqlite3.Connection, table: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (table,)).fetchone() is not None


def _check_schema(connection: sqlite3.Connection, address: str, path: Path) -> None:
    """Refuse tables of another version: MLflow migrates some silently, some not, and offers to migrate newer ones."""
    found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    known = _revisions()
    if found is None or not known or known.get(found[0]) == "newest":
        return
    if found[0] not in known:
        raise TrackingError(
            f"MLflow store {path}: was made by a newer MLflow than {version('mlflow')}, which is installed here (its "
            f"tables are of {found[0]}); run `pip install --upgrade mlflow`"
        )
    name, copy = shlex.quote(str(path)), shlex.quote(f"{path}.before-upgrade")
    upgrade = f"mlflow db upgrade {shlex.quote(address)}"
    raise TrackingError(
        f"MLflow store {path}: was made by an older MLflow than {version('mlflow')}, which is installed here (its "
        f"tables are of {found[0]}); run `cp {name} {copy} && {upgrade}`"
    )


@cache
def _revisions() -> dict[str, str]:
    """The versions of its tables that MLflow knows, each as "older" or "newest"; none if it keeps them elsewhere."""
    package = find_spec("mlflow")
    places = package.submodule_search_locations if package else None
    files = [file for place in places or () for file in Path(place, "store/db_migrations/versions").glob("*.py")]
    found = [match.groups() for file in files for match in REVISION.finditer(file.read_text(encoding="utf-8"))]
    followed = {name for is_before, name in found if is_before}
    return {name: "older" if name in followed else "newest" for is_before, name in found if not is_before}


def _check_experiment(connection: sqlite3.Connection, address: str, experiment: str) -> None:
    query = "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'deleted'"
    if found := connection.execute(query, (experiment,)).fetchone():
        raise deleted_experiment(address, experiment, str(found[0]))
