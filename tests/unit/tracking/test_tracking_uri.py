"""Where the MLflow store lies."""

import pytest
from sqlalchemy.engine import make_url

from darkroom.errors import TrackingError
from darkroom.tracking.tracking_uri import check_uri, is_local, portable, shown, sqlite_file, sqlite_uri, tracking_uri
from darkroom.workspace import Workspace


def test_the_store_and_the_spools_lie_in_the_projects_root_also_for_queued_experiments(tmp_path, monkeypatch):
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "abc"
    copy.mkdir(parents=True)
    for place in (tmp_path, copy):
        monkeypatch.chdir(place)
        assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
        assert Workspace().spools == tmp_path / "models" / "checkpoints" / "tracking"


def test_the_environment_names_the_store(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri() == "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sqlite:///mlflow.db", "sqlite:///{root}/mlflow.db"),
        ("sqlite:///./x.db", "sqlite:///{root}/x.db"),
        ("sqlite:///../x.db?timeout=3", "sqlite:///{parent}/x.db?timeout=3"),
        ("sqlite+pysqlite:///a/x.db", "sqlite:///{root}/a/x.db"),
        ("sqlite:////x/y%20z.db", "sqlite:////x/y z.db"),
        ("file:runs", "file://{root}/runs"),
        ("file:./runs", "file://{root}/runs"),
        ("./runs", "file://{root}/runs"),
        ("runs", "file://{root}/runs"),
        ("file:///x/runs", "file:///x/runs"),
        ("/x/runs", "/x/runs"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite:///file:x.db?uri=true", "sqlite:///file:x.db?uri=true"),
        ("databricks", "databricks"),
        ("postgresql://u@host/db", "postgresql://u@host/db"),
    ],
)
def test_a_relative_address_begins_at_the_projects_root_also_for_queued_experiments(
    tmp_path, monkeypatch, given, expected
):
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "abc"
    copy.mkdir(parents=True)
    for place in (tmp_path, copy):
        monkeypatch.chdir(place)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
        found = tracking_uri()
        assert found == expected.format(root=tmp_path, parent=tmp_path.parent)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", found)  # as MLflow does
        assert tracking_uri() == found


@pytest.mark.parametrize("name", ["plain", "two words", "größe", "a#b", "my%20p", "100%", "what?", "new\nline", "a\\b"])
def test_the_address_of_a_file_is_read_by_sqlalchemy_as_that_file(tmp_path, name):
    path = tmp_path / name / "mlflow.db"
    address = sqlite_uri(path)
    assert make_url(address).database == str(path)
    assert sqlite_file(address) == path
    assert "\n" not in address


def test_a_path_that_mlflow_cannot_keep_is_refused(tmp_path):
    with pytest.raises(TrackingError, match="MLflow keeps paths as UTF-8, which this is not; rename the directory"):
        sqlite_uri(tmp_path / "\udcff" / "mlflow.db")


def test_a_file_of_the_project_is_noted_so_that_it_may_move(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert portable(tracking_uri()) == "sqlite:///mlflow.db"
    assert portable("sqlite:////x/mlflow.db") == "sqlite:////x/mlflow.db"
    assert portable("https://me:secret@mlflow.example") == "https://mlflow.example"


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:5000", "https://mlflow.example", "sqlite:////x/mlflow.db", "postgresql+psycopg2://u:p@host/db",
     "mysql://host/db", "databricks", "databricks://profile", "file:///x", "relative/path", "uc://profile"],
)  # fmt: skip
def test_addresses_of_mlflows_kinds_are_taken(address):
    check_uri(address)


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("htp://127.0.0.1:5000", "htp: stores; did you mean 'http'"),
        ("ftp://127.0.0.1", "ftp: stores; choose from: databricks"),
        ("localhost:5000", "localhost: stores; choose from: databricks"),
    ],
)
def test_an_address_that_no_store_can_have_is_refused(address, hint):
    with pytest.raises(TrackingError, match=hint):
        check_uri(address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [("sqlite:////x/mlflow.db", True), ("relative/path", True), ("file:///x", True), ("http://localhost", False),
     ("postgresql+psycopg2://host/db", False), ("databricks", False)],
)  # fmt: skip
def test_a_file_of_this_machine_is_local(address, expected):
    assert is_local(address) == expected


def test_a_password_is_not_shown():
    assert shown("https://me:secret@mlflow.example:5000/x") == "https://mlflow.example:5000/x"
    assert shown("postgresql://me:secret@host/db") == "postgresql://host/db"
    assert shown("sqlite:////home/me@work/mlflow.db") == "sqlite:////home/me@work/mlflow.db"
