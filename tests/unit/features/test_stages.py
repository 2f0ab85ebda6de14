"""The stages with a head alone, from the images to the registry."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.stages import run_stages
from tests.unit.features.conftest import BACKBONE, write_images

from darkroom.data.batches import read_split
from darkroom.data.cache import DatasetCard
from darkroom.errors import TrackingError
from darkroom.features import compute
from darkroom.models.files import load_classifier
from darkroom.utils.files import write_json
from darkroom.workspace import Workspace


@pytest.fixture
def written(project: Callable[..., Path], weights: Path) -> Callable[..., Path]:
    """A project whose images are preprocessed, with the settings of a head, changed as given."""
    made: list[Path] = []

    def make(**changes: Any) -> Path:
        settings = {
            "dataset__name": "folder",
            "model__name": "pretrained",
            "model__backbone": BACKBONE,
            "model__weights_path": str(weights),
            "train__epochs": 2,
            "train__batch_size": 8,
            "search__epochs": 2,
            "search__trials": 3,
            "search__finalists": 1,
            "search__repeats": 2,
            "search__space": {
                "train": {"lr": {"low": 0.001, "high": 0.1}},
                "model": {"hidden": {"choices": [[4], [8]]}},
            },
        }
        root = project(**{**settings, **changes})
        if not made:
            write_images(root)
            (root / "reports" / "preprocess").mkdir(parents=True)
        made.append(root)
        return root

    return make


@pytest.fixture
def trained(written: Callable[..., Path]) -> Callable[..., Path]:
    """The same, searched, trained and evaluated."""

    def make(**changes: Any) -> Path:
        root = written(**changes)
        run_stages(root, "search", "train", "evaluate")
        return root

    return make


@pytest.mark.slow
def test_a_head_is_searched_trained_and_evaluated_as_a_whole_model(
    trained: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = trained(augment__views=2, augment__flip="random")

    workspace = Workspace(root)
    searched = json.loads((root / "reports" / "search" / "summary.json").read_text())
    metrics = json.loads((root / "reports" / "train" / "metrics.json").read_text())
    model, card = load_classifier(workspace.weights, workspace.model_card)
    test = read_split(workspace.processed("folder"), DatasetCard.read(workspace.processed("folder")), "test")
    with torch.no_grad():
        assert model(test.images).shape == (5, 3)
    assert searched["trials"] == 3
    assert card.settings["model"]["train"] == "head"
    assert card.facts["system.features_by"] == "torch on cpu"
    assert metrics["parameters"] == sum(each.numel() for each in model.parameters())
    (kept,) = [path for path in (root / "data" / "features").iterdir() if path.is_dir()]

    def refuse(*_: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(compute._Computation, "run", refuse)
    capsys.readouterr()
    trained(augment__views=2, augment__flip="random", train__weight_decay=0.3, model__freeze_norm=True)

    assert kept.exists()
    assert " ".join(capsys.readouterr().err.split()).count("model.freeze_norm has no effect on a head alone") == 1
    trained(augment__views=2, augment__flip="random", model__freeze_norm=True, search__trials=0)
    assert " ".join(capsys.readouterr().err.split()).count("model.freeze_norm has no effect on a head alone") == 1


@pytest.mark.parametrize("stage", ["search", "train"])
def test_a_store_that_cannot_be_used_is_refused_before_features_are_computed(
    written: Callable[..., Path], stage: str
) -> None:
    workspace = Workspace(written())
    write_json(workspace.best_params, {"params": {}})

    with pytest.raises(TrackingError, match="MLflow knows no nowhere: stores"):
        run_stages(workspace.root, stage, MLFLOW_TRACKING_URI="nowhere://here")

    assert not workspace.features.exists()
    assert not workspace.study_journal.exists()


@pytest.mark.slow
def test_the_views_of_a_search_are_computed_once_for_all_trials_and_the_training(
    trained: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original, computed = compute._Computation.run, []

    def counted(self: Any) -> None:
        computed.append(self.config.augment.views)
        original(self)

    monkeypatch.setattr(compute._Computation, "run", counted)

    space = {"augment": {"views": {"choices": [1, 3]}}}
    # 4 outside the space: with them the finalists are compared.
    root = trained(augment__flip="random", augment__views=4, search__space=space)

    best = json.loads((root / "models" / "search" / "best_params.json").read_text())
    card = json.loads((root / "models" / "model.json").read_text())
    assert best["params"].get("augment.views", 4) == card["settings"]["augment"]["views"]
    assert computed == [4]
    # Whatever number the search chose.
    assert "no effect" not in capsys.readouterr().err
