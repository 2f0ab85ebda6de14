"""The features that a training has left give what the images give."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from tests.unit.features.conftest import CPU, TRAIN

from darkroom.config import Config
from darkroom.data.batches import read_split
from darkroom.evaluation.logits import predict_logits
from darkroom.evaluation.neighbors import TrainNeighbors
from darkroom.features.head import Head, train_head
from darkroom.features.known import find_known
from darkroom.models.card import ModelCard
from darkroom.models.classifier import Classifier
from darkroom.models.pretrained import Pretrained
from darkroom.training.checkpoint import Checkpoint
from darkroom.workspace import Workspace

Trained = Callable[..., tuple[ModelCard, Classifier]]


@pytest.fixture
def trained(opened: Callable[..., Head], configured: Callable[..., Config], tmp_path: Path) -> Trained:
    """A model whose head was trained with these settings, and its card."""

    def train(**changes: Any) -> tuple[ModelCard, Classifier]:
        config, head = configured(**changes), opened(**changes)
        checkpoint = Checkpoint(tmp_path / "train.pt", "key")
        classifier, _ = train_head(config, head, CPU, checkpoint=checkpoint, on_epoch=lambda _: None)
        settings = config.model_dump(mode="json")
        return ModelCard(asdict(head.features.dataset), settings, {}, {}, "run", "0" * 64), classifier

    return train


@pytest.mark.parametrize("changes", [{}, {"model__hidden": (12, 6)}, {"augment__views": 3, "augment__flip": "random"}])
def test_its_head_gives_the_logits_and_neighbors_of_the_images(trained: Trained, changes: dict[str, Any]) -> None:
    card, classifier = trained(**changes)

    known = find_known(Workspace(), card, classifier)

    assert known
    for name, features in (("train", known.train), ("val", known.val)):
        images = read_split(Path("data/processed/folder"), card.dataset_card, name)
        assert torch.equal(features.labels, images.labels)
        expected = predict_logits(classifier, images, 4)
        torch.testing.assert_close(predict_logits(known.head, features, 4), expected, rtol=1e-4, atol=1e-4)
    train = read_split(Path("data/processed/folder"), card.dataset_card, "train")
    rows = np.arange(TRAIN)
    by_images = TrainNeighbors(classifier, train, [], TRAIN, 4).nearest(train, rows, 3)
    by_features = TrainNeighbors(classifier, train, [], TRAIN, 4, (known.head, known.train)).nearest(train, rows, 3)
    # Features are float16.
    np.testing.assert_allclose(by_features[1], by_images[1], atol=2e-3)


def test_of_a_model_that_was_trained_as_a_whole_there_are_none(trained: Trained) -> None:
    card, classifier = trained()
    card.settings["model"]["train"] = "all"
    assert find_known(Workspace(), card, classifier) is None


def test_features_of_other_weights_are_not_taken(trained: Trained) -> None:
    card, classifier = trained()
    with torch.no_grad():
        next(cast(Pretrained, classifier.network).model.parameters()).mul_(2)
    assert find_known(Workspace(), card, classifier) is None


def test_features_that_are_gone_or_damaged_are_not_taken(trained: Trained) -> None:
    card, classifier = trained()
    (path,) = Workspace().features.rglob("val.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert find_known(Workspace(), card, classifier) is None
    path.unlink()
    assert find_known(Workspace(), card, classifier) is None
    shutil.rmtree(Workspace().features)
    assert find_known(Workspace(), card, classifier) is None
