"""The tracking URI, found without importing MLflow and without a request to the store."""

import os
import re
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from darkroom.errors import TrackingError, did_you_mean
from darkroom.workspace import Workspace, project_root

DEFAULT_STORE = "mlflow.db"
LOCAL = ("", "file", "sqlite")
REMOTE = ("http", "https", "postgresql", "mysql", "mssql", "databricks", "uc")
# As SQLAlchemy reads it, which also unquotes the path.
SQLITE = re.compile(r"sqlite(\+\w+)?:///(?P<path>[^?]+)(\?.*)?", re.DOTALL)


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else the SQLite file in the project's root.

    Files are named from the project's root on: DVC runs a queued experiment in a copy that it deletes. Raises
    TrackingError if the path is one that MLflow cannot keep.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if not given:
        return sqlite_uri(project_root() / DEFAULT_STORE)
    if path := sqlite_file(given):
        return sqlite_uri(path) + "".join(given.partition("?")[1:])
    path_given = given.removeprefix("file:")
    if _scheme(given) in ("", "file") and not path_given.startswith("/"):
        return (project_root() / unquote(path_given)).as_uri()
    return given


def sqlite_file(address: str) -> Path | None:
    """The file of an SQLite store; None of other stores, of one in memory, and of SQLite's own ``file:`` addresses."""
    found = SQLITE.fullmatch(address)
    path = unquote(found["path"]) if found else ":memory:"
    return None if path.startswith((":memory:", "file:")) else (project_root() / path).resolve()


def sqlite_uri(path: Path) -> str:
    """The address of the SQLite store in the file ``path``. Raises TrackingError if its name is not UTF-8."""
    text = str(path)
    if text.isprintable() and "?" not in text and unquote(text) == text:
        return f"sqlite:///{text}"
    try:
        # With the driver's name, as MLflow makes the directories of a path without it, and does not unquote that.
        return f"sqlite+pysqlite:///{quote(text)}"
    except UnicodeEncodeError:
        raise TrackingError(f"{text!r}: MLflow keeps paths as UTF-8, which this is not; rename the directory") from None


def store_exists() -> bool:
    """Whether there is a store; for one that is not a local file, only connecting can find out."""
    path = sqlite_file(tracking_uri())
    return path is None or path.exists()


def need_store(workspace: Workspace) -> None:
    """Raises TrackingError if there is no store."""
    if not store_exists():
        raise TrackingError(f"no MLflow store at {shown(tracking_uri())}; {register_hint(workspace)}")


def register_hint(workspace: Workspace) -> str:
    """The command that registers a model. If DVC restored one, `dvc repro` has nothing to do.

    A model in the working tree may be of other data than params.yaml names, and then only `dvc repro` helps.
    """
    hint = "`dvc repro` trains and registers a model"
    if workspace.weights.is_file():
        hint += f" (if it has nothing to do: `darkroom register` registers {workspace.weights})"
    return hint


def check_uri(address: str) -> None:
    """Refuse a URI that no store can have. Raises TrackingError."""
    known = {*LOCAL, *REMOTE, *(plugin.name for plugin in entry_points(group="mlflow.tracking_store"))}
    scheme = _scheme(address)
    if scheme not in known:
        raise TrackingError(
            f"MLFLOW_TRACKING_URI={shown(address)}: MLflow knows no {scheme}: stores; "
            f"{did_you_mean(scheme, sorted(known - {''}))}"
        )


def is_local(address: str) -> bool:
    """Whether the store is a file on this machine: waiting for such a store is of no use."""
    return _scheme(address) in LOCAL


def shown(address: str) -> str:
    """The URI without its password, to be shown and stored."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else address


def portable(address: str) -> str:
    """The URI as a file of the project may store it: it stays valid when the project is moved or copied."""
    path = sqlite_file(address)
    if path and path.is_relative_to(project_root()):
        return f"sqlite:///{path.relative_to(project_root())}"
    return shown(address)


def _scheme(address: str) -> str:
    """``postgresql`` of ``postgresql+psycopg2://…``; none of a path or a name without ``:``."""
    scheme, colon, _ = address.partition(":")
    return scheme.partition("+")[0].lower() if colon else "" if address != "databricks" else address
