"""Where studies are kept: in a journal file, which serves one machine, or in a database, which serves several."""

import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage

from darkroom.config import Config
from darkroom.errors import SearchError
from darkroom.search.optuna_internals import JournalFile
from darkroom.utils.memory import failure_reason

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

# Between two heartbeats of a running trial.
HEARTBEAT_SECONDS = 30
# After which a running trial without a heartbeat is taken for abandoned.
GRACE_SECONDS = 120
# In which a database answers.
CONNECT_TIMEOUT_SECONDS = 10
EXTRA = "pip install --editable '.[postgresql]'"


def open_storage(config: Config, journal: Path) -> BaseStorage:
    """The database of search.storage, with its tables as this Optuna needs them, or else the file ``journal``.

    Call it before any worker starts: of several processes that create one at once, most fail.

    Raises SearchError if the file is damaged, or if the database cannot be used.
    """
    if config.search.storage is None:
        return _Journal(journal)
    return _database(config.search.storage)


# The descriptors of the journals that this process searches in, locked until it ends or opens them again.
_held: dict[Path, int] = {}


class _Journal(JournalStorage):
    """A journal file. ``is_alone`` says that no other process searched in it when it was opened."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if (previous := _held.pop(path.resolve(), None)) is not None:
            os.close(previous)
        opened = _held[path.resolve()] = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.is_alone = True
            _mend(path)
        except BlockingIOError:
            self.is_alone = False
        fcntl.flock(opened, fcntl.LOCK_SH)
        with intact(path):
            super().__init__(JournalFile(str(path)))


@contextmanager
def intact(journal: Path | str) -> Iterator[None]:
    """Raise SearchError where Optuna cannot replay a journal."""
    try:
        yield
    except Exception as problem:  # there is no saying what damaged lines make Optuna raise
        reason = failure_reason(problem)
        raise SearchError(f"{journal}: damaged ({reason}); delete it to start the search over") from None


def _mend(path: Path) -> None:
    """Remove what a process left behind that was killed while it wrote."""
    # Others would wait for half a minute before they take the lock away.
    Path(f"{path}.lock").unlink(missing_ok=True)
    with path.open("rb+") as opened:
        content = opened.read()
        # To a last line that was not written to its end Optuna would append, and fail from then on.
        opened.truncate(content.rfind(b"\n") + 1)


def shown(address: str) -> str:
    """The address of a database as it may be shown and written down: without password and options."""
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(address)
    except ArgumentError:
        return "what is none"
    return URL.create(url.drivername, url.username, None, url.host, url.port, url.database).render_as_string()


def _database(address: str) -> BaseStorage:
    # Where studies lie in files it is not needed, and it takes long to import.
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    try:
        return optuna.storages.get_storage(_migrated(make_url(address)))
    except (ArgumentError, NoSuchModuleError):
        raise SearchError(
            "search.storage: expected the address of a database, such as postgresql://user@host/name, "
            f"got {shown(address)}"
        ) from None
    except ImportError as problem:
        raise SearchError(
            f"search.storage: {shown(address)} needs a driver ({_reason(problem)}); for PostgreSQL run `{EXTRA}`"
        ) from None
    except (SQLAlchemyError, RuntimeError) as problem:
        raise SearchError(
            f"search.storage: {shown(address)} cannot be used ({_reason(problem)}); start the server, fix the "
            "address, or leave it empty for a file on this machine"
        ) from None


def _migrated(url: "URL") -> RDBStorage:
    if url.drivername == "postgresql":
        # Which driver that means changed with SQLAlchemy's releases; this is the one that our extra brings.
        url = url.set(drivername="postgresql+psycopg2")
    address = url.render_as_string(hide_password=False)
    # SQLAlchemy's drivers do not agree on the name of this option.
    options = {"connect_args": {"connect_timeout": CONNECT_TIMEOUT_SECONDS}} if "psycopg" in url.drivername else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats
        connect = partial(
            RDBStorage, address, options, heartbeat_interval=HEARTBEAT_SECONDS, grace_period=GRACE_SECONDS
        )
        try:
            return connect()
        except RuntimeError:  # another release of Optuna has made the tables
            old = connect(skip_compatibility_check=True)
            if old.get_current_version() in old.get_all_versions():
                old.upgrade()
            return connect()


@contextmanager
def explained(config: Config) -> Iterator[None]:
    """Raise SearchError where the database of search.storage fails in the middle of a search."""
    try:
        yield
    except StorageInternalError as problem:
        raise SearchError(
            f"search.storage: {shown(config.search.storage or '')} has failed ({_reason(problem)}); "
            "run the command again when it answers, and the search resumes"
        ) from None


def _reason(problem: BaseException) -> str:
    """The first line of what the driver says, below SQLAlchemy and Optuna."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    return failure_reason(problem)
