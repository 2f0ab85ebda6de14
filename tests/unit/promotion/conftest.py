"""A registry with versions that no training had to make."""

import numpy as np
import pytest
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from tests.unit.promotion.fakes import CLASSES, labels_of

from darkroom.config.settings import Tracking
from darkroom.data import cache as data_cache
from darkroom.tracking.runs import WEIGHTS_TAG
from darkroom.tracking.tracker import connect
from darkroom.workspace import Workspace

NAME = "a-model"


@pytest.fixture
def store(project):
    project()
    return connect(Tracking(), Workspace().spools)


@pytest.fixture
def client(store):
    return store.client


@pytest.fixture
def add(client, store):
    """Make versions of NAME, numbered from 1, each of a run with a model; returns the run of the last one."""

    def add(count=1):
        for _ in range(count):
            number = len(client.search_model_versions(f"name = '{NAME}'")) + 1
            if number == 1:
                client.create_registered_model(NAME)
            run_id = client.create_run(store.experiment_id).info.run_id
            model_id = client.create_logged_model(store.experiment_id, "model", run_id).model_id
            client.finalize_logged_model(model_id, LoggedModelStatus.READY)
            client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
            tags = {WEIGHTS_TAG: f"weights of {number}"}
            made = client.create_model_version(NAME, f"models:/{model_id}", run_id, tags=tags, model_id=model_id)
            assert int(made.version) == number
        return run_id

    return add


@pytest.fixture
def aliases(client):
    """The aliases of NAME as {alias: version}."""
    return lambda: {alias: str(version) for alias, version in client.get_registered_model(NAME).aliases.items()}


@pytest.fixture
def cached(tmp_path):
    """A cache whose test images each carry the answer in the first pixel, and its fingerprint."""
    labels = labels_of(100)
    images = np.zeros((104, 1, 2, 2), np.uint8)
    images[:100, 0, 0, 0] = labels
    card = data_cache.write(
        tmp_path, images, np.concatenate([labels, [0] * 4]),
        {"test": np.arange(100), "train": np.arange(100, 102), "val": np.arange(102, 104)},
        name="small", classes=CLASSES, names=(), settings={},
    )  # fmt: skip
    return tmp_path, card.fingerprint
