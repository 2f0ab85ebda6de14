"""A project works in a directory of any name that a file system allows."""

import shutil

import pytest
from tests.stages import run_command
from tests.store import copy_store

from darkroom.config.settings import Tracking
from darkroom.tracking.tracker import connect
from darkroom.workspace import Workspace

ALL_SIGNS = "-what? #1 & 'a' \"b\" größe [x] a@b:c\\d 50%;|$HOME*"


@pytest.mark.parametrize("name", ["my%20project", ALL_SIGNS, "new\nline", "mlruns"])
def test_a_model_is_trained_registered_and_asked(name, evaluated_once, tmp_path):
    root = tmp_path / name
    shutil.copytree(evaluated_once, root, ignore=shutil.ignore_patterns("mlruns", "mlflow.db"))
    copy_store(evaluated_once, root)
    picture = next((root / "reports" / "evaluate").rglob("*.png"))

    for arguments in (["predict", str(picture)], ["train"], ["evaluate"], ["register"], ["history"]):
        ended = run_command(root, *arguments)
        assert ended.code == 0, ended

    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {path.name for path in root.iterdir()} == {path.name for path in evaluated_once.iterdir()}


@pytest.mark.slow
def test_a_store_is_made_where_it_is_looked_for(tmp_path, monkeypatch):
    root = tmp_path / "what? my%20project"
    root.mkdir()
    monkeypatch.chdir(root)

    store = connect(Tracking(), Workspace().spools)

    assert [path.name for path in tmp_path.iterdir()] == [root.name]
    assert [path.name for path in root.iterdir()] == ["mlflow.db"]
    locations = {each.artifact_location for each in store.client.search_experiments()}
    assert locations == {(root / "mlruns").as_uri(), (root / "mlruns" / "0").as_uri()}
