"""Trainings in float64 that several processes share, and the same ones in a single process."""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from tests.device.backbone import TinyBackbone
from tests.device.trainings import CARD, configured, images
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from darkroom.errors import TrainingError
from darkroom.models.dropout import Dropout
from darkroom.training.agreement import check_agreement
from darkroom.training.checkpoint import Checkpoint
from darkroom.training.fit import fit, start_classifier
from darkroom.training.loop import EpochMetrics
from darkroom.training.ranks import ALONE, Ranks
from darkroom.training.whole_batch import WholeBatch

CPU = torch.device("cpu")
Ended = tuple[dict[str, Tensor], list[dict[str, Any]], str]


def train(ranks: Ranks, folder: Path, model: str, changes: dict[str, Any], count: int, **options: Any) -> Ended:
    """The weights, the metrics of each epoch, and a digest of the last state of torch's generator.

    Of a training on ``count`` images.
    """
    config = configured(CPU, model, **changes)
    split, val = images(count, 0), images(9, 1)
    with mock.patch("darkroom.models.pretrained.find_backbone", return_value=TinyBackbone(folder)):
        classifier = start_classifier(config, CARD, split).double()
    result = fit(classifier, split, val, config.train, config.augment, CPU, ranks=ranks, **options)
    history = [asdict(metrics) | {"seconds": 0.0} for metrics in result.history]
    return dict(classifier.state_dict()), history, hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()


def train_alone(folder: Path, model: str, changes: dict[str, Any], count: int) -> Ended:
    return train(ALONE, folder, model, changes, count)


class Interrupted(Exception):  # noqa: N818
    """After the second epoch."""


def train_interrupted(ranks: Ranks, folder: Path, model: str, changes: dict[str, Any], file: Path) -> Ended:
    """As ``train``, but interrupted, and resumed from the checkpoint in ``file``."""

    def interrupt(metrics: EpochMetrics) -> None:
        if metrics.epoch == 2:
            raise Interrupted

    with contextlib.suppress(Interrupted):
        train(ranks, folder, model, changes, 20, checkpoint=Checkpoint(file, "key"), on_epoch=interrupt)
    return train(ranks, folder, model, changes, 20, checkpoint=Checkpoint(file, "key"))


def resume_without_a_shared_folder(ranks: Ranks, folder: Path, file: Path) -> str:
    """The error message where only the first process has the checkpoint in ``file``."""
    own = file if ranks.is_first else file.with_name("elsewhere")
    with pytest.raises(TrainingError) as raised:
        train(ranks, folder, "mlp", {}, 20, checkpoint=Checkpoint(own, "key"))
    return str(raised.value)


def disagree(ranks: Ranks, *facts: dict[str, Any]) -> str:
    """The error message if each process knows its own ``facts``; empty if they agree."""
    try:
        check_agreement(ranks, facts[ranks.rank])
    except TrainingError as problem:
        return str(problem)
    return ""


def difference_of_a_part(ranks: Ranks, layer: str, layout: torch.memory_format) -> tuple[float, bool]:
    """How a layer's outputs and gradients for a part differ from those for a whole batch, and if the generator does."""
    shape = (5 * ranks.count, 4, 3, 3)
    images = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(
        memory_format=layout
    )
    found = []
    for is_part in (False, True):
        module = LAYERS[layer]().double()
        torch.manual_seed(1)
        shown = images.chunk(ranks.count)[ranks.rank] if is_part else images
        shown = shown.clone().requires_grad_(True)
        with WholeBatch(ranks) if is_part else contextlib.nullcontext():
            outputs = module(shown * 1)  # some change it in place
        (outputs**3).sum().backward()
        assert shown.grad is not None
        both = torch.stack([outputs.detach(), shown.grad])
        found.append((both if is_part else both.chunk(ranks.count, 1)[ranks.rank], torch.get_rng_state()))
    (whole, expected), (part, state) = found
    return (whole - part).abs().max().item(), torch.equal(expected, state)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "batch normalization": lambda: nn.BatchNorm2d(4),
    "batch normalization without weights": lambda: nn.BatchNorm2d(4, affine=False, track_running_stats=False),
    "batch normalization that is not trained": lambda: nn.BatchNorm2d(4).eval(),
    "dropout": lambda: nn.Dropout(0.3),
    "dropout in place": lambda: nn.Dropout(0.3, inplace=True),
    "dropout that is not trained": lambda: nn.Dropout(0.3).eval(),
    "own dropout": lambda: Dropout(0.3),
    "dropped layers": lambda: StochasticDepth(0.5, "row"),
}
