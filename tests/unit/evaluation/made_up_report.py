"""Evaluations that were made up, for the tests of the report."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from darkroom.data.batches import Split
from darkroom.evaluation.metrics import Evaluation, measure
from darkroom.evaluation.neighbors import TrainNeighbors
from darkroom.evaluation.page.pictures import NamedImages
from darkroom.evaluation.page.write import write_report
from darkroom.evaluation.reference import fit_reference
from darkroom.models.classifier import Classifier

BINS = 10


def classifier_of(shape: tuple[int, int, int], classes: int) -> Classifier:
    torch.manual_seed(0)
    size = int(np.prod(shape))
    network = nn.Sequential(nn.Flatten(), nn.Linear(size, 32), nn.ReLU(), nn.Linear(32, classes))
    return Classifier(network, mean=[0.5] * shape[0], std=[0.3] * shape[0])


def noise(count: int, shape: tuple[int, int, int], classes: int, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(count) % classes)


def logits_for(labels: np.ndarray, classes: int, right: float, seed: int = 0) -> np.ndarray:
    """Logits float32 [N, classes] of which a share is ``right``, more or less sure."""
    generator = np.random.default_rng(seed)
    answers = np.where(generator.random(len(labels)) < right, labels, generator.integers(0, classes, len(labels)))
    logits = generator.normal(size=(len(labels), classes)).astype(np.float32)
    logits[np.arange(len(labels)), answers] += generator.uniform(2, 8, len(labels)).astype(np.float32)
    return logits


def evaluation(classes: tuple[str, ...], count: int = 120, right: float = 0.8) -> tuple[Evaluation, np.ndarray]:
    labels = np.arange(count) % len(classes)
    logits = logits_for(labels, len(classes), right)
    return measure(logits, labels, classes, top_k=2, bins=BINS), logits


def write(
    path: Path,
    classes: tuple[str, ...],
    *,
    count: int = 120,
    right: float = 0.8,
    shape: tuple[int, int, int] = (1, 8, 8),
    train: int = 60,
    **more: Any,
) -> tuple[Evaluation, np.ndarray]:
    """Write the report of a made-up evaluation; without ``train`` images there are no neighbors."""
    found, logits = evaluation(classes, count, right)
    test = noise(count, shape, len(classes))
    known = noise(train, shape, len(classes), seed=1)
    model = classifier_of(shape, len(classes))
    write_report(
        path,
        found,
        logits,
        NamedImages(test, [f"{classes[label]}/{row}.png" for row, label in enumerate(found.labels)], {}),
        TrainNeighbors(model, known, [], train, 16) if train else None,
        classes=classes,
        about={"dataset": "folder", "model": "mlp"},
        reference=fit_reference(logits, found.labels),
        bins=BINS,
        **more,
    )
    return found, logits
