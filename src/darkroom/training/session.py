"""One training from the settings: seeded, built, fitted. What a search trial and the final training share."""

from collections.abc import Callable
from pathlib import Path

import torch

from darkroom.config import Config
from darkroom.data.augmentation import check_sizes
from darkroom.data.batches import CPU, Split
from darkroom.data.cache import DatasetCard
from darkroom.models.classifier import Classifier, build_classifier
from darkroom.models.start import begin_with, read_start
from darkroom.training.checkpoint import Checkpoint
from darkroom.training.device import choose_device
from darkroom.training.fit import fit
from darkroom.training.loop import EpochMetrics, FitResult
from darkroom.training.size import check_size

# Images that a network may look at before it is trained, and pixels: of large images fewer do.
INITIAL_IMAGES, INITIAL_PIXELS = 512, 5_120_000


def train_classifier(
    config: Config,
    card: DatasetCard,
    train: Split,
    val: Split,
    *,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    on_step: Callable[[], None] = lambda: None,
) -> tuple[Classifier, FitResult]:
    """Train a new classifier as ``config`` says; see ``fit`` for the rest.

    Raises ModelError if the architecture cannot take the images, ConfigError if the augmentation cannot,
    TrainingError if the loss diverges.
    """
    classifier = start_classifier(config, card, train, choose_device(config.train.device))
    result = fit(
        classifier,
        train,
        val,
        config.train,
        config.augment,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        on_step=on_step,
    )
    return classifier, result


def start_classifier(config: Config, card: DatasetCard, train: Split, device: torch.device = CPU) -> Classifier:
    """The classifier on ``device`` as a training begins with it: new, or with the weights in train.start_from's file.

    Raises ModelError or ConfigError if it does not fit the images or the memory, or the weights do not fit it.
    """
    check_sizes(config.augment, card.shape)
    check_size(config, card, device)
    torch.manual_seed(config.train.seed)
    classifier = build_classifier(config.model, card)
    if config.train.start_from is not None:
        begin_with(read_start(Path(config.train.start_from)), classifier, config.model, card)
        return classifier.to(device)
    # Evenly from all over the split: its images may lie class by class.
    height, width = card.shape[1:]
    count = min(len(train), INITIAL_IMAGES, max(2, INITIAL_PIXELS // (height * width)))
    rows = torch.arange(count, device=train.images.device) * len(train) // count
    classifier.to(device).initialise(train.take(rows, device)[0])
    return classifier
