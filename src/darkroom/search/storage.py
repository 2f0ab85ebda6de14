"""Where studies are kept, and which of their running trials nobody trains any more.

A journal file serves one machine, a database several. Of this machine's searches the process tells whether it goes on;
of other machines' a database hears a heartbeat for each running trial, and a journal is locked by whoever uses it.
"""

import fcntl
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from io import FileIO
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from darkroom.config import Config
from darkroom.errors import SearchError
from darkroom.process import is_gone, is_of_this_machine, this_process
from darkroom.search.worker import first_line

# User attribute of a trial: the process whose workers train it.
OWNER = "owner"
# Seconds between two heartbeats, and after which a trial without one is taken for abandoned.
HEARTBEAT, GRACE = 30, 120
# Seconds in which a database answers.
ANSWER = 10
EXTRA = "pip install --editable '.[postgresql]'"


def open_storage(config: Config, journal: Path) -> BaseStorage:
    """The database of search.storage, with its tables as this Optuna needs them, or else the file ``journal``.

    Call it before any worker starts: of several processes that create one at once, most fail.

    Raises SearchError if the file is damaged, or if the database cannot be used.
    """
    if config.search.storage is None:
        return _Journal(journal)
    return _database(config.search.storage)


# The journals that this process searches in, locked until it ends or opens them again.
_held: dict[Path, FileIO] = {}


class _Journal(JournalStorage):
    """A journal file. ``is_alone`` says that no other process searched in it when it was opened."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if previous := _held.pop(path.resolve(), None):
            previous.close()
        opened = _held[path.resolve()] = path.open("ab", buffering=0)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.is_alone = True
            _mend(path)
        except BlockingIOError:
            self.is_alone = False
        fcntl.flock(opened, fcntl.LOCK_SH)
        try:
            super().__init__(JournalFileBackend(str(path)))
        except (ValueError, LookupError) as problem:
            raise SearchError(f"{path}: damaged ({problem}); delete it to start the search anew") from None


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
    try:
        return _without_secrets(make_url(address))
    except ArgumentError:
        return "an address that is none"


def _without_secrets(url: URL) -> str:
    return URL.create(url.drivername, url.username, None, url.host, url.port, url.database).render_as_string()


def _database(address: str) -> BaseStorage:
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
            f"search.storage: {shown(address)} cannot be used ({_reason(problem)}); start the server, mend the "
            "address, or leave it empty for a file on this machine"
        ) from None


def _migrated(url: URL) -> RDBStorage:
    if url.drivername == "postgresql":
        # Which driver that means changed with SQLAlchemy's releases; this is the one that our extra brings.
        url = url.set(drivername="postgresql+psycopg2")
    address = url.render_as_string(hide_password=False)
    # SQLAlchemy's drivers do not agree on the name of this option.
    options = {"connect_args": {"connect_timeout": ANSWER}} if "psycopg" in url.drivername else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats
        connect = partial(RDBStorage, address, options, heartbeat_interval=HEARTBEAT, grace_period=GRACE)
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
            "run the command again when it answers, and the search goes on"
        ) from None


def _reason(problem: BaseException) -> str:
    """The first line of what the driver says, below SQLAlchemy and Optuna."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    return first_line(problem)


def ask(study: optuna.Study, kinds: dict[str, BaseDistribution]) -> optuna.Trial:
    """The next trial of a study, marked as one that this process has trained."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Heartbeat of storage")  # `heartbeats` is what Optuna would have done
        trial = study.ask(kinds)
    trial.set_user_attr(OWNER, this_process())
    storage = study._storage
    if isinstance(storage, BaseHeartbeat):
        storage.record_heartbeat(trial._trial_id)
    return trial


@contextmanager
def heartbeats(study: optuna.Study) -> Iterator[None]:
    """Let a database hear every while that this process has its trials trained, until the block ends."""
    storage, ended = study._storage, threading.Event()
    if not isinstance(storage, BaseHeartbeat):
        yield
        return

    def beat() -> None:
        while not ended.wait(HEARTBEAT):
            # A database that does not answer now may do so in time; whoever waits for it says what is wrong.
            with suppress(StorageInternalError):
                for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                    if trial.user_attrs.get(OWNER) == this_process():
                        storage.record_heartbeat(trial._trial_id)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def abandoned(study: optuna.Study) -> list[FrozenTrial]:
    """The running trials whose search has ended without ending them, this process's own earlier one among them.

    A search asks before its first trial, not later: what another one has trained meanwhile is none of these.
    """
    storage = study._storage
    silent = set(storage._get_stale_trial_ids(study._study_id)) if isinstance(storage, BaseHeartbeat) else set()
    oldest = datetime.now() - timedelta(seconds=GRACE)  # noqa: DTZ005 - as Optuna writes the time

    def is_abandoned(trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get(OWNER)
        if owner and is_of_this_machine(owner):
            return owner == this_process() or is_gone(owner)
        if not isinstance(storage, BaseHeartbeat):
            return getattr(storage, "is_alone", True)
        # Its search was killed before it could claim the trial, or has just asked for it.
        is_old = trial.datetime_start is not None and trial.datetime_start < oldest
        return trial._trial_id in silent or (owner is None and is_old)

    return [trial for trial in study.get_trials(states=(TrialState.RUNNING,)) if is_abandoned(trial)]
