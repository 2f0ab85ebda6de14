"""Trainings in float64 that several processes share, and the same ones in a single process."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from tests.device.backbone import TinyBackbone
from tests.device.trainings import CARD, configured, images
from torch import Tensor

from darkroom.training.fit import fit, start_classifier
from darkroom.training.ranks import ALONE, Ranks

CPU = torch.device("cpu")
Ended = tuple[dict[str, Tensor], list[dict[str, Any]], str]


def train(ranks: Ranks, folder: Path, model: str, changes: dict[str, Any], count: int) -> Ended:
    """The weights, the metrics of each epoch, and a digest of the last state of torch's generator.

    Of a training on ``count`` images.
    """
    config = configured(CPU, model, **changes)
    split, val = images(count, 0), images(9, 1)
    with mock.patch("darkroom.models.pretrained.find_backbone", return_value=TinyBackbone(folder)):
        classifier = start_classifier(config, CARD, split).double()
    result = fit(classifier, split, val, config.train, config.augment, CPU, ranks=ranks)
    history = [asdict(metrics) | {"seconds": 0.0} for metrics in result.history]
    return dict(classifier.state_dict()), history, hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()


def train_alone(folder: Path, model: str, changes: dict[str, Any], count: int) -> Ended:
    return train(ALONE, folder, model, changes, count)
