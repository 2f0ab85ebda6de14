"""MLflow stores that cost tests little: copies, where registering takes seconds, and no work that each would repeat."""

import contextlib
import functools
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from darkroom.tracking.relocation import relocate


def copy_store(source: Path, target: Path) -> None:
    """Copy the store of the project in ``source`` to the project in ``target``, its runs' and models' files included.

    It takes the place of a store that ``target`` may have.
    """
    shutil.copyfile(source / "mlflow.db", target / "mlflow.db")
    shutil.copytree(source / "mlruns", target / "mlruns", dirs_exist_ok=True)
    relocate(target / "mlflow.db")


@functools.cache
def hasten_databases() -> None:
    """What each new database costs: MLflow reads its own migrations, and SQLite waits for the disk at each change.

    No test ends the power supply.
    """
    from mlflow.store.db import utils
    from sqlalchemy import Engine, event

    utils._get_latest_schema_revision = functools.cache(utils._get_latest_schema_revision)

    @event.listens_for(Engine, "connect")
    def write_without_waiting(connection: Any, record: object) -> None:
        # One that is locked or damaged is told of when it is used.
        if isinstance(connection, sqlite3.Connection):
            with contextlib.suppress(sqlite3.Error):
                connection.execute("PRAGMA synchronous = OFF")
