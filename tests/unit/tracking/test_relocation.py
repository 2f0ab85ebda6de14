"""A store that was moved or copied with its project: refused, and mended by one command."""

import shutil
import sqlite3
from contextlib import closing

import pytest
from mlflow.store.db import utils
from tests.stages import run_command

from darkroom.config import load
from darkroom.errors import TrackingError
from darkroom.tracking.relocation import LOCATIONS, check_place, relocate
from darkroom.tracking.tracker import Tracker
from darkroom.workspace import Workspace

# Columns of such names that hold what users name, or a server's settings. A new one is to be looked at.
OTHERS = {
    "evaluation_dataset_records.source",
    "mcp_server_versions.source",
    "workspaces.default_artifact_root",
    "workspaces.trace_archival_location",
}


@pytest.fixture
def moved(evaluated_once, tmp_path):
    """A project that lay elsewhere when its store was made."""
    root = tmp_path / "moved"
    shutil.copytree(evaluated_once, root)
    old = tmp_path / "old"
    relocate(root / "mlflow.db")
    rewrite(root / "mlflow.db", root, old)
    return root, old


def rewrite(database, before, now):
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column, _ in LOCATIONS:
            query = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"  # noqa: S608
            connection.execute(query, (str(before), str(now)))


def places(database):
    with closing(sqlite3.connect(database)) as connection:
        found = [connection.execute(f"SELECT {column} FROM {table}").fetchall() for table, column, _ in LOCATIONS]  # noqa: S608
    return [value for rows in found for (value,) in rows if value and "mlruns" in value]


def check(database):
    with closing(sqlite3.connect(database)) as connection:
        check_place(connection, database)


def test_every_column_of_mlflow_that_may_hold_a_place_is_known():
    names = {
        f"{table.name}.{column.name}"
        for table in utils.Base.metadata.tables.values()
        for column in table.columns
        if any(word in column.name for word in ("location", "artifact", "storage", "uri")) or column.name == "source"
    }
    known = {f"{table}.{column}" for table, column, _ in LOCATIONS}

    assert known - {"trace_tags.value"} <= names
    assert names - known == OTHERS


@pytest.mark.parametrize("command", ["predict", "models", "history", "promote", "compare", "train", "register"])
def test_no_command_works_on_the_files_of_another_place(moved, command):
    root, old = moved
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}

    ended = run_command(root, command, *(["params.yaml"] if command == "predict" else []))

    assert ended.code == 2
    assert ended.errors == (
        f"error: {root}/mlflow.db: was moved or copied, and still looks for its files in {old}/mlruns, not beside it "
        f"in {root}/mlruns; run `darkroom relocate`\n"
    )
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert not old.exists()


def test_one_command_lets_everything_work_again(moved):
    root, old = moved

    ended = run_command(root, "relocate")

    assert (
        ended.errors.strip()
        == f"relocate: {root}/mlflow.db now has 6 places in {root}/mlruns that it had in {old}/mlruns"
    )
    assert all(place.startswith((root / "mlruns").as_uri()) for place in places(root / "mlflow.db"))
    for command in (["predict", str(next(root.rglob("*.png")))], ["register"], ["promote", "1"]):
        assert run_command(root, *command).code == 0
    assert not old.exists()
    assert "nothing to change" in run_command(root, "relocate").errors


def test_a_store_that_was_moved_twice_is_mended_at_once(moved, tmp_path):
    root, old = moved
    with closing(sqlite3.connect(root / "mlflow.db")) as connection, connection:
        connection.execute(
            "INSERT INTO experiments VALUES (7, 'older', ?, 'active', 0, 0, 'default')",
            (f"{tmp_path}/oldest/mlruns/7",),
        )

    done = relocate(root / "mlflow.db")

    assert done.before == (old / "mlruns", tmp_path / "oldest" / "mlruns")
    check(root / "mlflow.db")


def test_a_copy_is_given_its_own_files(moved, evaluated_once):
    root, old = moved
    shutil.copytree(root / "mlruns", old / "mlruns")

    relocate(root / "mlflow.db")

    check(root / "mlflow.db")
    assert (old / "mlruns").exists()


def test_files_that_were_left_behind_are_not_lost_sight_of(moved):
    root, old = moved
    old.mkdir()
    (root / "mlruns").rename(old / "mlruns")
    before = places(root / "mlflow.db")

    with pytest.raises(
        TrackingError, match=r"holds files of this store that .* lacks, such as .*`mkdir -p .* && cp -a "
    ):
        relocate(root / "mlflow.db")
    assert places(root / "mlflow.db") == before

    shutil.copytree(old / "mlruns", root / "mlruns")
    assert relocate(root / "mlflow.db").models_without_files == 0


def test_models_whose_files_are_gone_are_counted(moved):
    root, _ = moved
    shutil.rmtree(root / "mlruns")

    ended = run_command(root, "relocate")

    assert ended.code == 0
    assert "warning: 1 model of the store had no files in either; " in ended.errors


def test_an_interrupted_relocation_changes_nothing(moved, monkeypatch):
    root, _ = moved
    before = places(root / "mlflow.db")
    calls = []

    def fail(location, here):
        calls.append(location)
        if len(calls) > 8:
            raise KeyboardInterrupt
        return elsewhere(location, here)

    from darkroom.tracking import relocation

    elsewhere = relocation._elsewhere
    monkeypatch.setattr(relocation, "_elsewhere", fail)
    with pytest.raises((KeyboardInterrupt, sqlite3.Error)):
        relocate(root / "mlflow.db")

    assert places(root / "mlflow.db") == before


def test_a_locked_store_is_not_relocated(moved, monkeypatch):
    root, _ = moved
    monkeypatch.setattr(sqlite3, "connect", impatient(sqlite3.connect))
    with closing(sqlite3.connect(root / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        ended = run_command(root, "relocate")

    assert ended.code == 2
    assert "mlflow.db cannot be used (locked); " in ended.errors


def impatient(connect):
    return lambda *arguments, **options: connect(*arguments, **options | {"timeout": 0})


@pytest.mark.parametrize(
    "place", ["s3://bucket/mlruns", "mlflow-artifacts:/1", "file:///elsewhere/files", "/mnt/store/1"]
)
def test_a_place_that_somebody_chose_is_left_alone(empty_store, tmp_path, place):
    database = shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO experiments VALUES (1, 'darkroom', ?, 'active', 0, 0, 'default')", (place,))

    check(database)
    relocate(database)

    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 1").fetchone()
    assert found == (place,)


def test_the_same_place_by_a_link_is_no_other(evaluated_once, tmp_path, monkeypatch):
    link = tmp_path / "link"
    link.symlink_to(shutil.copytree(evaluated_once, tmp_path / "project"))
    relocate(link / "mlflow.db")
    rewrite(link / "mlflow.db", (tmp_path / "project").resolve(), link)

    check(link / "mlflow.db")


def test_a_stage_is_refused_before_its_work(moved, monkeypatch):
    root, _ = moved
    monkeypatch.chdir(root)

    with pytest.raises(TrackingError, match="run `darkroom relocate`"):
        Tracker(load(root / "params.yaml").tracking, Workspace().spools)
