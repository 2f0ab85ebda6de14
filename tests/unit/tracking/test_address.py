"""Where the MLflow store lies."""

import pytest

from darkroom.errors import TrackingError
from darkroom.tracking.address import check_address, is_local, shown, store_address
from darkroom.workspace import Workspace


def test_the_store_and_the_spools_lie_in_the_projects_root_also_for_queued_experiments(tmp_path, monkeypatch):
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "abc"
    copy.mkdir(parents=True)
    for place in (tmp_path, copy):
        monkeypatch.chdir(place)
        assert store_address() == f"sqlite:///{tmp_path}/mlflow.db"
        assert Workspace().spools == tmp_path / "models" / "checkpoints" / "tracking"


def test_the_environment_names_the_store(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert store_address() == "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:5000", "https://mlflow.example", "sqlite:////x/mlflow.db", "postgresql+psycopg2://u:p@host/db",
     "mysql://host/db", "databricks", "databricks://profile", "file:///x", "relative/path", "uc://profile"],
)  # fmt: skip
def test_addresses_of_mlflows_kinds_are_taken(address):
    check_address(address)


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
        check_address(address)


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
