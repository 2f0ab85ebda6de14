"""A model that is exported more often than it must be made."""

import onnx
import pytest

from darkroom.export import exporter
from darkroom.formats.onnx import save_onnx, write_onnx
from darkroom.formats.pt2 import trace
from darkroom.models.files import load_classifier


@pytest.fixture(scope="module")
def graph(evaluated_once, tmp_path_factory):
    """The model as ONNX, without metadata."""
    classifier, card = load_classifier(
        evaluated_once / "models" / "model.safetensors", evaluated_once / "models" / "model.json"
    )
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_onnx(trace(classifier, card.dataset_card.shape), {}, path)
    return path


@pytest.fixture
def made_once(graph, monkeypatch):
    """Takes the graph that was made once for ONNX, which takes a second to make."""
    monkeypatch.setattr(
        exporter, "write_onnx", lambda program, metadata, path: save_onnx(onnx.load(graph), metadata, path)
    )
