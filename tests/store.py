"""A copy of an MLflow store in files, which takes milliseconds where registering a model takes seconds."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

# Where MLflow keeps absolute addresses of files.
ADDRESSES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def copy_store(source: Path, target: Path) -> None:
    """Copy the store of the project in ``source`` to the project in ``target``, its runs' and models' files included.

    It takes the place of a store that ``target`` may have.
    """
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()  # by a run's id MLflow remembers where its files lie: in the copy elsewhere
    shutil.copyfile(source / "mlflow.db", target / "mlflow.db")
    shutil.copytree(source / "mlruns", target / "mlruns", dirs_exist_ok=True)
    with closing(sqlite3.connect(target / "mlflow.db")) as database, database:
        for table, column in ADDRESSES.items():
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)",  # noqa: S608 - names from the table above
                (str(source), str(target)),
            )
