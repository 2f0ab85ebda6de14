"""A server in the test's own process, with a model that needs no training."""

import pytest
from tests.serving.client import TestClient
from tests.serving.fakes import make_loaded

from darkroom.config.settings import Serve
from darkroom.serving.app import make_app
from darkroom.serving.service import Service


@pytest.fixture
def make_service():
    """Make a service with a champion and settings as given."""

    def make(loaded=None, **settings):
        service = Service(Serve(**settings))
        service.serve(loaded or make_loaded(), "2026-02-03T04:05:06+00:00")
        return service

    return make


@pytest.fixture
def service(make_service):
    return make_service()


@pytest.fixture
def client(service):
    """Asks ``service``."""
    with TestClient(make_app(service)) as client:
        yield client


@pytest.fixture
def registry(root):
    """The registry of a module's project ``root``."""
    import mlflow  # which few of these tests need

    # MLflow asks this process's own store for the model of a new version, and not the client's.
    mlflow.set_tracking_uri(f"sqlite:///{root / 'mlflow.db'}")
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(None)
