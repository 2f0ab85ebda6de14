"""A real tracking server for a team, as `make tracking-server` starts it, and a project that ran against it."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from deploy.postgresql import programs
from deploy.tracking_server import Server
from mlflow import MlflowClient
from tests.clone import Clone, copy_project
from tests.forkserver import fork_workers
from tests.ports import free_port
from tests.stages import Ended, run_command, run_stages

from darkroom.errors import TrackingError


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server, running. It lives as long as the session: a test uses a registered model of its own."""
    try:
        programs()
    except TrackingError as problem:
        pytest.skip(str(problem))
    # pytest's own directories are closed to others than who runs it, and root runs PostgreSQL as another user.
    with tempfile.TemporaryDirectory(prefix="server") as directory:
        Path(directory).chmod(0o711)
        made = Server(Path(directory), free_port(), free_port(), "fsync=off")
        made.start()
        try:
            yield made
        finally:
            made.kill()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client of the server, whose address, user and password this process and its children get too."""
    for key, value in server.environment.items():
        monkeypatch.setenv(key, value)
    return MlflowClient(server.address)


@dataclass(frozen=True)
class Team:
    """A clone of the project, whose commands use the server."""

    clone: Clone
    server: Server

    def darkroom(self, *arguments: str, **environment: str) -> Ended:
        return run_command(self.clone.root, *arguments, **(self.server.environment | environment))

    def read(self, name: str) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.clone.root / name).read_text())
        return found


@pytest.fixture(scope="session")
def team(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Team:
    """The project after its stages: a small search with two workers, whose study lies in the database, and a model."""
    search = {"trials": 2, "epochs": 1, "finalists": 0, "workers": 2, "storage": server.studies}
    settings = {f"search__{key}": value for key, value in search.items()}
    clone = copy_project(tmp_path_factory.mktemp("team"), train__epochs=2, **settings)
    with pytest.MonkeyPatch.context() as patch:
        fork_workers(patch)
        run_stages(clone.root, **server.environment)
    return Team(clone, server)
