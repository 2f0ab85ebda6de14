"""An SQLite store that cannot be used is told as what it is, with what helps, and nothing is lost."""

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from mlflow.store.db.utils import _get_alembic_config, _get_latest_schema_revision
from sqlalchemy import create_engine
from tests.wait import SECONDS

from darkroom.config.settings import Tracking
from darkroom.errors import TrackingError
from darkroom.tracking import database, writer
from darkroom.tracking.database import check_database
from darkroom.tracking.tracker import Tracker, connect, registry_client
from darkroom.tracking.tracking_uri import tracking_uri
from darkroom.workspace import Workspace

OLDEST = "451aebb31d03"


@pytest.fixture
def store(project):
    return project() / "mlflow.db"


@pytest.fixture
def impatient(monkeypatch):
    """SQLite does not wait for a lock, neither here nor in MLflow."""
    monkeypatch.setattr(database, "LOCK_TIMEOUT_SECONDS", 0.0)
    monkeypatch.setattr(sqlite3, "connect", at_once(sqlite3.connect))
    monkeypatch.setattr(sqlite3.dbapi2, "connect", at_once(sqlite3.dbapi2.connect))


def at_once(really):
    return lambda *arguments, **options: really(*arguments, **options | {"timeout": 0})


def set_revision(path, revision):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def both(path):
    """Opening it to write, as stages do, and to read."""
    return (lambda: Tracker(Tracking(), Workspace().spools), lambda: registry_client(Workspace()))


def refusals(path):
    found = []
    for opens in both(path):
        with pytest.raises(TrackingError) as refused:
            opens()
        found.append(str(refused.value))
    return found


def test_a_store_of_a_newer_mlflow_is_told_with_the_package_to_upgrade(store):
    set_revision(store, "ffffffffffff")
    for message in refusals(store):
        assert "was made by a newer MLflow than " in message
        assert message.endswith("run `pip install --upgrade mlflow`")


def test_a_store_of_an_older_mlflow_is_told_with_the_upgrade_after_a_copy(store):
    set_revision(store, OLDEST)
    before = store.read_bytes()
    for message in refusals(store):
        assert "was made by an older MLflow than " in message
        assert f"run `cp {store} {store}.before-upgrade && mlflow db upgrade sqlite:///{store}`" in message
    assert store.read_bytes() == before


def test_the_newest_version_of_the_tables_is_mlflows_own():
    assert [name for name, age in database._revisions().items() if age == "newest"] == [_get_latest_schema_revision()]


@pytest.mark.parametrize("damage", ["other", "torn"])
def test_a_damaged_store_is_told_with_how_to_begin_anew(store, damage):
    content = store.read_bytes()
    store.write_bytes(b"no database, but long enough to be one" * 40 if damage == "other" else content[:5000])
    damaged = store.read_bytes()
    for message in refusals(store):
        assert "mlflow.db cannot be used (damaged); put a copy from before back, or `mv " in message
        assert message.endswith("`darkroom register` brings the model in the working tree there")
    assert store.read_bytes() == damaged


def test_a_store_that_may_only_be_read_is_read(store, monkeypatch):
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))

    with pytest.raises(TrackingError, match=r"cannot be used \(read-only\); `chmod u\+w .*mlflow\.db .*` as its owner"):
        Tracker(Tracking(), Workspace().spools)
    registry_client(Workspace())


def test_what_is_no_file_is_told(store):
    store.unlink()
    store.mkdir()
    for message in refusals(store):
        assert message == f"MLflow store {store}: is not a file"


def test_an_empty_file_becomes_a_store(store):
    store.write_bytes(b"")
    check_database(tracking_uri(), "darkroom")


def test_a_locked_store_is_told_with_who_may_hold_it(store, impatient, monkeypatch):
    monkeypatch.setattr(database, "_holders", lambda path: f"mlflow (process 7) may hold {path.name}")
    with closing(sqlite3.connect(store)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TrackingError) as refused:
            registry_client(Workspace())
        with pytest.raises(TrackingError) as refused_to_write:
            connect(Tracking(), Workspace().spools)
    for each in (refused, refused_to_write):
        assert str(each.value) == (
            f"MLflow store sqlite:///{store} cannot be used (locked); mlflow (process 7) may hold mlflow.db: nothing "
            "is lost, run the command again when it has ended"
        )


def test_a_store_that_is_locked_for_a_while_gets_all_that_a_stage_told(store, impatient, monkeypatch, capsys):
    monkeypatch.setattr(writer, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(writer, "FIRST_PAUSE_SECONDS", 0.01)
    tried = threading.Event()
    note = writer.Writer._note
    monkeypatch.setattr(writer.Writer, "_note", lambda *given, **more: (note(*given, **more), tried.set()))
    with closing(sqlite3.connect(store)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with Tracker(Tracking(), Workspace().spools) as tracker:
            with tracker.start("a run", "train") as run:
                run.log_metrics({"val/loss": 1.0}, step=1)
            assert tried.wait(SECONDS)
            other.rollback()
    assert "warning" not in capsys.readouterr().err
    found = connect(Tracking(), Workspace().spools)
    assert found.client.get_run(found.id_of(run.key)).info.status == "FINISHED"


def test_what_a_locked_store_has_not_taken_stays_and_is_brought_later(store, impatient, capsys):
    with closing(sqlite3.connect(store)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with Tracker(Tracking(), Workspace().spools) as tracker, tracker.start("a run", "train") as run:
            pass
    assert "does not answer (locked); unsent data is kept in " in capsys.readouterr().err
    found = connect(Tracking(), Workspace().spools)
    assert found.client.get_run(found.id_of(run.key)).info.status == "FINISHED"


@pytest.mark.slow
def test_the_upgrade_that_is_advised_works(store):
    config = _get_alembic_config(f"sqlite:///{store}")
    with create_engine(f"sqlite:///{store}").begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")
    with pytest.raises(TrackingError) as refused:
        check_database(tracking_uri())
    advised = str(refused.value).split("`")[1]

    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", advised], env=environment, check=True, capture_output=True)

    check_database(tracking_uri())
    assert store.with_name("mlflow.db.before-upgrade").is_file()
