"""A real tracking server for a team, as `make server` starts it: MLflow over HTTP, with passwords, on PostgreSQL."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy.postgresql import programs
from deploy.server import Server
from mlflow import MlflowClient

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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
