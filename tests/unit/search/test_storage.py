"""Studies in a file or in a database, and whose their running trials are."""

import fcntl
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import optuna
import psutil
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from tests.wait import wait_until

from darkroom.config import parse
from darkroom.errors import SearchError
from darkroom.search import heartbeat, optuna_internals
from darkroom.search.attributes import OWNER
from darkroom.search.heartbeat import abandoned, ask_trial, heartbeats
from darkroom.search.storage import explained, open_storage
from darkroom.utils.process_id import this_process

HOST = this_process().rsplit(":", 2)[0]
PARENT = f"{HOST}:{os.getppid()}:{psutil.Process(os.getppid()).create_time():.0f}"
OWNERS = {"nobody": None, "this": this_process(), "ended": f"{HOST}:1:0", "living": PARENT, "elsewhere": "far away:1:0"}


def config(storage=None):
    return parse({"search": {"storage": storage}}, where="")


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "study.journal"


@pytest.fixture
def database(tmp_path):
    return tmp_path / "study.db"


@pytest.fixture
def another_search(journal):
    """Another process that searches in the journal."""
    hold = f"import fcntl; held = open({str(journal)!r}, 'ab'); fcntl.flock(held, fcntl.LOCK_SH)"
    code = f"{hold}; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield
        process.kill()


def study_in(storage):
    return optuna.create_study(storage=storage, study_name="study", load_if_exists=True)


def running(study, owner, age=timedelta(0)):
    """A running trial that somebody asked for."""
    start = datetime.now(UTC).astimezone().replace(tzinfo=None) - age  # as Optuna writes it
    template = FrozenTrial(0, TrialState.RUNNING, None, start, None, {}, {}, {}, {}, {}, 0)
    if owner:
        template.set_user_attr(OWNER, owner)
    return study._storage.create_new_trial(study._study_id, template)


def owners_of(trials):
    names = {owner: name for name, owner in OWNERS.items()}
    return {names[trial.user_attrs.get(OWNER)] for trial in trials}


def test_alone_in_a_journal_every_trial_is_abandoned_whose_process_does_not_live_here(journal):
    study = study_in(open_storage(config(), journal))
    for owner in OWNERS.values():
        running(study, owner)

    assert owners_of(abandoned(study_in(open_storage(config(), journal)))) == {"nobody", "this", "ended", "elsewhere"}


@pytest.mark.slow
@pytest.mark.usefixtures("another_search")
def test_beside_another_search_only_those_are_abandoned_whose_process_has_ended(journal):
    study = study_in(open_storage(config(), journal))
    for owner in OWNERS.values():
        running(study, owner)

    assert owners_of(abandoned(study)) == {"this", "ended"}


def test_in_a_database_the_heartbeat_tells_what_goes_on_elsewhere(database):
    study = study_in(open_storage(config(f"sqlite:///{database}"), database))
    numbers = {name: running(study, owner) for name, owner in OWNERS.items()}
    assert owners_of(abandoned(study)) == {"this", "ended"}

    for number in (numbers["elsewhere"], numbers["living"]):
        study._storage.record_heartbeat(number)
    assert owners_of(abandoned(study)) == {"this", "ended"}

    stop_the_hearts(database)
    assert owners_of(abandoned(study)) == {"this", "ended", "elsewhere"}


def test_in_a_database_a_trial_that_nobody_claims_is_abandoned_after_a_while(database):
    study = study_in(open_storage(config(f"sqlite:///{database}"), database))
    running(study, None, timedelta(hours=1))
    running(study, None)

    assert [trial.number for trial in abandoned(study)] == [0]


def test_a_journal_waits_for_the_disk_once_a_second(journal, monkeypatch):
    now, waited, fsync = [100.0], [], os.fsync
    monkeypatch.setattr(optuna_internals.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(optuna_internals.os, "fsync", lambda file: [waited.append(now[0]), fsync(file)])
    study = study_in(open_storage(config(), journal))
    for moment in (100.0, 100.5, 101.5):
        now[0] = moment
        for _ in range(5):
            study.tell(study.ask({"a": FloatDistribution(0, 1)}), 0.5)
    assert waited == [100.0, 101.5]
    (read,) = optuna.get_all_study_summaries(JournalStorage(JournalFileBackend(str(journal))))
    assert read.n_trials == 15


def test_only_running_trials_are_abandoned(journal):
    study = study_in(open_storage(config(), journal))
    study.add_trial(optuna.trial.create_trial(value=1.0, user_attrs={OWNER: OWNERS["ended"]}))
    study.enqueue_trial({})

    assert abandoned(study) == []


def stop_the_hearts(database):
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'")
    connection.close()


def test_the_heart_of_a_trial_of_this_process_beats(database, monkeypatch):
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.01)
    study = study_in(open_storage(config(f"sqlite:///{database}"), database))
    ask_trial(study, {})
    other = running(study, OWNERS["elsewhere"])
    study._storage.record_heartbeat(other)
    assert study._storage._get_stale_trial_ids(study._study_id) == []
    stop_the_hearts(database)

    with heartbeats(study):
        wait_until(lambda: len(study._storage._get_stale_trial_ids(study._study_id)) <= 1, "the heart beat")

    assert study._storage._get_stale_trial_ids(study._study_id) == [other]


def test_a_trial_of_a_journal_has_an_owner_and_no_heartbeat(journal):
    study = study_in(open_storage(config(), journal))
    with heartbeats(study):
        ask_trial(study, {})

    assert study.trials[0].user_attrs == {OWNER: this_process()}


@pytest.mark.slow
@pytest.mark.usefixtures("another_search")
def test_a_line_that_another_search_may_be_writing_is_left_to_it(journal):
    study_in(open_storage(config(), journal))
    with journal.open("ab") as opened:
        opened.write(b'{"op_code":5,"wor')

    open_storage(config(), journal)

    assert journal.read_bytes().endswith(b'"wor')


def test_what_a_killed_search_locked_is_free_again(journal):
    study_in(open_storage(config(), journal))
    lock = journal.with_name("study.journal.lock")
    lock.symlink_to(journal)

    storage = open_storage(config(), journal)

    assert not lock.is_symlink()
    assert isinstance(storage, JournalStorage)


def test_a_journal_is_locked_by_its_search(journal):
    open_storage(config(), journal)

    with journal.open("ab") as opened, pytest.raises(BlockingIOError):
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)


def at_version(database, version):
    RDBStorage(f"sqlite:///{database}").engine.dispose()
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    connection.close()


def test_tables_of_an_older_release_are_migrated(database):
    at_version(database, "v3.0.0.d")

    open_storage(config(f"sqlite:///{database}"), database)

    RDBStorage(f"sqlite:///{database}").engine.dispose()  # which refuses tables that are not as it needs them


def test_tables_of_a_newer_release_are_refused(database):
    at_version(database, "v99.0.0.a")

    with pytest.raises(
        SearchError, match=r"study\.db cannot be used \(The runtime optuna version .* no longer compatible"
    ):
        open_storage(config(f"sqlite:///{database}"), database)


PLACE = r"postgresql://me@127\.0\.0\.1:1/studies"
REFUSED = [
    ("postgresql://me:s3cret@127.0.0.1:1/studies", rf"{PLACE} cannot be used \(connection .*refused"),
    ("postgresql://me:s3cret@127.0.0.1:1/studies?password=s3cret", rf"{PLACE} cannot be used"),
    ("postgresql+pg8000://me:s3cret@127.0.0.1:1/studies", r"needs a driver \(No module .*pip install --editable"),
    ("carrier-pigeon://me:s3cret@127.0.0.1/studies", "expected the address of a database, such as postgresql://"),
    ("s3cret", "expected the address of a database, such as postgresql://"),
    ("sqlite:////nowhere/at/all.db", r"sqlite:////nowhere/at/all\.db cannot be used \(unable to open database file"),
]


@pytest.mark.parametrize(("address", "line"), REFUSED)
def test_a_database_that_cannot_be_used_is_refused_without_telling_the_password(journal, address, line):
    with pytest.raises(SearchError, match=rf"^search\.storage: .*{line}") as caught:
        open_storage(config(address), journal)

    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_without_the_driver_the_extra_is_named(journal, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)

    with pytest.raises(
        SearchError, match=r"^search\.storage: postgresql://host/x needs a driver \(.*'\.\[postgresql\]'`$"
    ):
        open_storage(config("postgresql://host/x"), journal)


def test_a_database_that_fails_in_the_middle_of_a_search_is_named(database):
    settings = config(f"sqlite:///{database}")
    study = study_in(open_storage(settings, database))
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TABLE trials")
    connection.close()

    with (
        pytest.raises(
            SearchError, match=r"^search\.storage: sqlite:///.*study\.db has failed \(no such table: trials\);"
        ),
        explained(settings),
    ):
        ask_trial(study, {})


def test_what_is_no_failure_of_the_database_is_not_explained(journal):
    with pytest.raises(ValueError, match="ours"), explained(config()):
        raise ValueError("ours")
