"""A server in the test's own process, with a model that needs no training."""

import pytest
from starlette.testclient import TestClient
from tests.serving.made_up import make_bundle

from darkroom.config import load
from darkroom.promotion.promote import register_and_crown
from darkroom.promotion.registry import champion
from darkroom.serving.app import make_app
from darkroom.serving.service import Service
from darkroom.settings import Serve
from darkroom.tracking.tracker import connect
from darkroom.workspace import Workspace


@pytest.fixture
def make_service():
    """Make a service with a champion and settings as given."""

    def make(bundle=None, **settings):
        service = Service(Serve(**settings))
        service.serve(bundle or make_bundle(), "2026-02-03T04:05:06+00:00")
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
def registered(evaluated):
    """The client of a store in which the project's model is champion, and its version."""
    config = load(evaluated / "params.yaml")
    store = connect(config.tracking, Workspace().spools)
    register_and_crown(config, Workspace(), store)
    return store.client, champion(store.client, config.registered_model)
