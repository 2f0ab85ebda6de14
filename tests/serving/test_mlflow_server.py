"""MLflow's own server answers with the same logits for the same pixels."""

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import numpy as np
import pytest
from scipy.special import softmax
from tests.ports import free_port
from tests.serving.client import TestClient
from tests.serving.fakes import png_of
from tests.wait import SECONDS, wait_until

from darkroom.config.settings import Serve
from darkroom.data.batches import read_split
from darkroom.data.cache import DatasetCard
from darkroom.serving.app import make_app
from darkroom.serving.loaded_model import load_version
from darkroom.serving.service import Service
from darkroom.workspace import Workspace

pytestmark = pytest.mark.slow
IMAGES = 32


@pytest.fixture
def mlflow_server(evaluated, registered):
    """The address of `mlflow models serve` for the champion."""
    _, version = registered
    port = free_port()
    programs = Path(sys.executable).parent
    # It starts `uvicorn` by its name.
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    with (evaluated / "mlflow-serve.log").open("wb") as log, subprocess.Popen(
        [
            programs / "mlflow", "models", "serve", "--model-uri", f"models:/{version.name}@champion",
            "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port),
        ],
        env=os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{evaluated / 'mlflow.db'}", "PATH": path},
        stdout=log,
        stderr=log,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}"
            wait_until(lambda: _answers(address), "MLflow's server answered", process)
            yield address
        finally:
            os.killpg(process.pid, 9)


def _answers(address):
    try:
        return httpx2.get(f"{address}/ping").status_code == 200
    except httpx2.TransportError:
        return False


def test_both_servers_say_the_same_of_the_same_pixels(mlflow_server, registered):
    directory = Workspace().processed("digits")
    images = read_split(directory, DatasetCard.read(directory), "test").images[:IMAGES].numpy()
    answer = httpx2.post(f"{mlflow_server}/invocations", json={"inputs": images.tolist()}, timeout=SECONDS)
    logits = np.array(answer.json()["predictions"])

    for runtime in ("torch", "onnx"):
        loaded = load_version(*registered, Serve(runtime=runtime))
        np.testing.assert_allclose(loaded.runtime.infer(images), logits, atol=1e-5)
        service = Service(Serve())
        service.serve(loaded, None)
        with TestClient(make_app(service)) as client:
            files = [("images", png_of(image)) for image in images]
            found = client.post("/v1/predict?invert=false", files=files).json()["predictions"]
        expected = softmax(logits / loaded.reference.temperature, axis=1)
        np.testing.assert_allclose([list(each["probabilities"].values()) for each in found], expected, atol=1e-5)
