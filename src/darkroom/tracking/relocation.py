"""The location of the files of an SQLite store: ``mlruns`` beside its file, wherever that is.

MLflow stores the location of each experiment, run and model as an absolute path. After a project was moved, it points
to nothing. In a copy, it points to the files of the original, and the copy would write to them. Other locations that a
user has chosen, such as a bucket or a directory of another name, are not changed.
"""

import shlex
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from darkroom.errors import TrackingError

ARTIFACTS = "mlruns"
# Every column in which MLflow keeps such a place, as (table, column, which rows).
LOCATIONS = (
    ("experiments", "artifact_location", "TRUE"),
    ("runs", "artifact_uri", "TRUE"),
    ("logged_models", "artifact_location", "TRUE"),
    ("model_versions", "source", "TRUE"),
    ("model_versions", "storage_location", "TRUE"),
    ("trace_tags", "value", "key = 'mlflow.artifactLocation'"),
)
# MLflow makes the experiment 0 in every store, with a place below the directory that it happened to run in.
UNUSED = "(experiment_id != 0 OR EXISTS (SELECT 1 FROM runs WHERE runs.experiment_id = 0))"


@dataclass(frozen=True)
class Relocated:
    """The result: how many paths were changed, their old directories ``before``, and how many models have no files."""

    places: int
    before: tuple[Path, ...]
    models_without_files: int


def artifact_root(database: Path) -> Path:
    """The directory of the files of the store in ``database``, which may not exist yet."""
    return database.resolve().parent / ARTIFACTS


def check_place(connection: sqlite3.Connection, database: Path) -> None:
    """Raises TrackingError if the store in ``database`` was moved or copied, and still points to where it was."""
    here = artifact_root(database)
    for table, column, rows in _present(connection):
        condition = f"({rows}) AND {UNUSED}" if table == "experiments" else rows
        for location in _others(connection, table, column, condition, here):
            if found := _elsewhere(location, here):
                raise TrackingError(
                    f"{database}: was moved or copied, and still looks for its files in {found[0]}, not beside it "
                    f"in {here}; run `darkroom relocate`"
                )


def relocate(database: Path) -> Relocated:
    """Change all paths in the store in ``database`` to the directory beside it; on an error, none is changed.

    Raises TrackingError if the files are still where they were and not beside it, and sqlite3.Error if the file cannot
    be written.
    """
    here = artifact_root(database)
    before: set[Path] = set()

    def relocated(location: str) -> str:
        found = _elsewhere(location, here)
        if found is None:
            return location
        before.add(found[0])
        return (here / found[1]).as_uri()

    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.create_function("relocated", 1, relocated)
        # Nobody else may write between looking and changing; closing without COMMIT changes nothing.
        connection.execute("BEGIN IMMEDIATE")
        without = _check_files(connection, here)
        places = 0
        for table, column, rows in _present(connection):
            changed = f"({rows}) AND {column} LIKE '%/{ARTIFACTS}%' AND relocated({column}) != {column}"
            cursor = connection.execute(f"UPDATE {table} SET {column} = relocated({column}) WHERE {changed}")  # noqa: S608
            places += cursor.rowcount
        connection.execute("COMMIT")
    # MLflow remembers by the id of a run or model where its files lie.
    if loaded := sys.modules.get("mlflow.tracking._tracking_service.utils"):
        loaded._artifact_repos_cache.clear()
    return Relocated(places, tuple(sorted(before)), without)


def _check_files(connection: sqlite3.Connection, here: Path) -> int:
    """Refuse if files were left in the old place. Returns how many models have files in neither place."""
    lacking = 0
    for table, column, rows in _present(connection):
        if table == "experiments":  # of their own they have none
            continue
        for location in _others(connection, table, column, rows, here):
            found = _elsewhere(location, here)
            if found is None or (here / found[1]).exists():
                continue
            if (found[0] / found[1]).exists():
                old, new = shlex.quote(str(found[0])), shlex.quote(str(here))
                raise TrackingError(
                    f"{found[0]} holds files of this store that {here} lacks, such as {found[1]}; nothing was changed: "
                    f"bring them by `mkdir -p {new} && cp -a {old}/. {new}`, then run `darkroom relocate` again"
                )
            lacking += table == "logged_models"  # a run may have none
    return lacking


def _present(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """LOCATIONS, without those that an older MLflow does not have."""
    return [
        each
        for each in LOCATIONS
        if any(row[1] == each[1] for row in connection.execute(f"PRAGMA table_info({each[0]})"))
    ]


def _others(connection: sqlite3.Connection, table: str, column: str, rows: str, here: Path) -> list[str]:
    """The places that do not plainly lie in ``here``."""
    query = (
        f"SELECT DISTINCT {column} FROM {table} WHERE ({rows}) "  # noqa: S608 - names from LOCATIONS
        f"AND {column} LIKE '%/{ARTIFACTS}%' AND instr({column} || '/', ?) != 1"
    )
    return [location for (location,) in connection.execute(query, (f"{here.as_uri()}/",))]


def _elsewhere(location: str, here: Path) -> tuple[Path, Path] | None:
    """The directory ``mlruns`` that a place lies in, and the rest of it; None if that is ``here``, or there is none."""
    found = _split(location)
    return None if found is None or found[0].resolve() == here else found


def _split(location: str) -> tuple[Path, Path] | None:
    if not location.startswith(("file:///", "/")):
        return None
    path = Path(url2pathname(urlsplit(location).path if location.startswith("file:") else location))
    if ARTIFACTS not in path.parts:
        return None
    # The last one: below it MLflow makes no directory of this name.
    end = len(path.parts) - path.parts[::-1].index(ARTIFACTS)
    return Path(*path.parts[:end]), Path(*path.parts[end:])
