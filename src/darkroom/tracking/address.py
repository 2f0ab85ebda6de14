"""Where the MLflow store lies: told without importing MLflow and without asking the store."""

import os
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

from darkroom.errors import TrackingError, did_you_mean
from darkroom.workspace import Workspace, project_root

SQLITE = "sqlite:///"
DEFAULT_STORE = "mlflow.db"
LOCAL = ("", "file", "sqlite")
REMOTE = ("http", "https", "postgresql", "mysql", "mssql", "databricks", "uc")


def store_address() -> str:
    """MLFLOW_TRACKING_URI, else the SQLite file in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or default_address()


def default_address() -> str:
    return f"{SQLITE}{project_root() / DEFAULT_STORE}"


def store_exists() -> bool:
    """Whether there is a store to look into; of one that is not a local file only connecting tells."""
    address = store_address()
    return not address.startswith(SQLITE) or Path(address.removeprefix(SQLITE)).exists()


def need_store(workspace: Workspace) -> None:
    """Raises TrackingError if there is no store to look into."""
    if not store_exists():
        raise TrackingError(f"no MLflow store at {shown(store_address())}; {to_register(workspace)}")


def to_register(workspace: Workspace) -> str:
    """What to type for a registered model. Where DVC has brought one `dvc repro` has nothing to do."""
    if workspace.weights.is_file():
        return f"`darkroom register` registers {workspace.weights}"
    return "`dvc repro` trains and registers a model"


def check_address(address: str) -> None:
    """Refuse what no store can be reached by. Raises TrackingError."""
    known = {*LOCAL, *REMOTE, *(plugin.name for plugin in entry_points(group="mlflow.tracking_store"))}
    scheme = _scheme(address)
    if scheme not in known:
        raise TrackingError(
            f"MLFLOW_TRACKING_URI={shown(address)}: MLflow knows no {scheme}: stores; "
            f"{did_you_mean(scheme, sorted(known - {''}))}"
        )


def is_local(address: str) -> bool:
    """Whether the store is a file of this machine: such a one answers, or never will."""
    return _scheme(address) in LOCAL


def shown(address: str) -> str:
    """The address as it may be shown and written down: without a password."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else address


def unusable(address: str, reason: str) -> TrackingError:
    return TrackingError(
        f"MLflow store {shown(address)} cannot be used ({reason}); "
        "start the server or set MLFLOW_TRACKING_URI to another"
    )


def _scheme(address: str) -> str:
    """``postgresql`` of ``postgresql+psycopg2://…``; none of a path or a name without ``:``."""
    scheme, colon, _ = address.partition(":")
    return scheme.partition("+")[0].lower() if colon else "" if address != "databricks" else address
