"""Studies opened read-only: nothing is created, repaired or queued."""

from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from darkroom.config import Config
from darkroom.errors import SearchError, first_line
from darkroom.search.attributes import OPENED
from darkroom.search.storage import intact

if TYPE_CHECKING:
    from sqlalchemy.engine import URL


def latest_study(config: Config, journal: Path) -> optuna.Study:
    """The study that a search has opened last, in search.storage or else in the file ``journal``; nothing is changed.

    Raises SearchError if there is none, or the storage cannot be read.
    """
    storage = existing_storage(config, journal)
    summaries = [
        summary
        for summary in optuna.get_all_study_summaries(storage, include_best_trial=False)
        if OPENED in summary.user_attrs
    ]
    if not summaries:
        raise SearchError(f"{_where(config, journal)}: no study yet; `darkroom search` makes one")
    latest = max(summaries, key=lambda summary: str(summary.user_attrs[OPENED]))
    return optuna.load_study(study_name=latest.study_name, storage=storage)


def existing_storage(config: Config, journal: Path) -> BaseStorage:
    """The storage that searches use. Raises SearchError if it is not there yet, or cannot be read."""
    where = _where(config, journal)
    if config.search.storage is None:
        if not journal.is_file():
            raise SearchError(f"{where}: no study yet; `darkroom search` makes one")
        with intact(where):
            return JournalStorage(JournalFileBackend(str(journal)))
    return _existing_database(config.search.storage, where)


def _existing_database(address: str, where: str) -> BaseStorage:
    # Takes half a second that a journal does not need.
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = make_url(address)
        missing = url.get_backend_name() == "sqlite" and url.database and not Path(url.database).is_file()
        if missing or not _has_studies(url):
            raise SearchError(f"{where}: no study yet; `darkroom search` makes one")
        return RDBStorage(address, skip_table_creation=True)
    except (SQLAlchemyError, ImportError, RuntimeError) as problem:
        reason = first_line(problem)
        raise SearchError(f"{where} cannot be read ({reason}); start the server or fix the address") from None


def _has_studies(url: "URL") -> bool:
    from sqlalchemy import create_engine, inspect

    engine = create_engine(url)
    try:
        return inspect(engine).has_table("studies")
    finally:
        engine.dispose()


def _where(config: Config, journal: Path) -> str:
    if config.search.storage is None:
        return str(journal)
    # Brings torch with it, for which a journal need not wait.
    from darkroom.search.storage import shown

    return f"search.storage: {shown(config.search.storage)}"
