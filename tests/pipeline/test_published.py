"""The published archives, from a mirror to a registered model; skipped where no mirror is at hand."""

import json

import pytest

from darkroom.config import load
from darkroom.stages import download, evaluate, preprocess, search, train
from darkroom.workspace import Workspace


def test_an_mlp_reaches_97_percent_on_mnist_in_5_epochs(project, mirror):
    if mirror is None:
        pytest.skip("no mirror of the published archives: set DARKROOM_MIRROR")
    root = project(
        dataset__name="mnist", dataset__mirror=str(mirror), model__name="mlp", search__trials=0, train__epochs=5
    )
    config = load(root / "params.yaml")
    for stage in (download, preprocess, search, train, evaluate):
        stage.run(config, Workspace())
    summary = json.loads((root / "reports" / "evaluate" / "metrics.json").read_text())
    assert summary["images"] == 10_000
    assert summary["accuracy"] >= 0.97
    registered = json.loads((root / "reports" / "evaluate" / "registered.json").read_text())
    assert (registered["name"], registered["version"]) == ("darkroom-mnist", "1")
