"""Training from the settings to the end: seeded, built, fitted. Search trials begin with the same classifier."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from darkroom.config import Config
from darkroom.config.settings import Augment, Train
from darkroom.data.augmentation import check_sizes
from darkroom.data.batches import CPU, Split, place
from darkroom.data.cache import DatasetCard
from darkroom.errors import TrainingError
from darkroom.models.classifier import Classifier, build_classifier
from darkroom.models.head_init import initialize_head
from darkroom.models.pretrained import Pretrained
from darkroom.models.transfer import read_start, transfer_weights
from darkroom.models.weights import read_weights
from darkroom.training.agreement import check_agreement
from darkroom.training.checkpoint import Checkpoint
from darkroom.training.device import prepare
from darkroom.training.loop import EpochMetrics, FitResult, TrainingLoop
from darkroom.training.ranks import ALONE, Ranks
from darkroom.training.size import check_size
from darkroom.utils.memory import shortage

# Images that a network may look at before it is trained, and pixels: of large images fewer do.
INITIAL_IMAGES = 512
INITIAL_PIXELS = 5_120_000


def train_classifier(
    config: Config,
    card: DatasetCard,
    train: Split,
    val: Split,
    device: torch.device,
    *,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    on_step: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
) -> tuple[Classifier, FitResult]:
    """Train a new classifier on ``device`` as ``config`` says; see ``fit`` for the rest.

    Raises ModelError if the architecture cannot take the images, ConfigError if the augmentation cannot,
    TrainingError if the loss diverges.
    """
    classifier = start_classifier(config, card, train, device)
    result = fit(
        classifier,
        train,
        val,
        config.train,
        config.augment,
        device,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        on_step=on_step,
        ranks=ranks,
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
        start = read_start(Path(config.train.start_from))
        taken = transfer_weights(start, classifier, config.model, card)
        classifier.to(device)
        if not taken.kept:
            initialize_head(classifier, config, start.weights, train, device)
        return classifier
    height, width = card.shape[1:]
    count = min(len(train), INITIAL_IMAGES, max(2, INITIAL_PIXELS // (height * width)))
    classifier.to(device).initialize(train.take(train.some_rows(count), device)[0])
    if isinstance(classifier.network, Pretrained):
        weights = read_weights(classifier.network.fetch())
        initialize_head(classifier, config, weights, train, device)
    return classifier


def fit(
    model: nn.Module,
    train: Split,
    val: Split,
    settings: Train,
    augment: Augment,
    device: torch.device,
    *,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    on_step: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
) -> FitResult:
    """Train ``model``, which maps uint8 images [N, C, H, W] to logits, on ``train``, judged by ``val``.

    It is trained on ``device``. Afterwards it is on the CPU, in evaluation mode, with the weights of the best epoch.
    ``on_epoch`` is called after each epoch (what it raises ends the training), ``on_step`` after each
    optimizer step. With a ``checkpoint`` the state is saved after the first epoch, after the last, and between
    them as often as saving is cheap beside training; a training that was interrupted resumes from it and ends
    with the same bits as one that was not, on the same machine: on a GPU only with train.deterministic.
    Dropout draws from torch's global generator: seed it before building the model.

    With ``ranks``, all of which call this with the same arguments, they share the work, and each ends with the same
    weights. The first alone saves the checkpoint; all resume from it.

    Raises TrainingError if the loss of an epoch is not finite, or the memory does not suffice, ConfigError if the
    model cannot be compiled.
    """
    with enough_memory(settings):
        prepare(device, deterministic=settings.deterministic)
        model.to(device)
        train, val = place(device, train, val)
        loop = TrainingLoop(model, train, val, settings, augment, device, ranks)
        state = checkpoint.load() if checkpoint else None
        check_agreement(ranks, {"the epochs in the checkpoint": len(state["history"]) if state else 0})
        if state:
            loop.load_state(state)
            for metrics in loop.result.history:
                on_epoch(metrics)
        loop.warm_up()
        while not loop.finished:
            metrics = loop.run_epoch(on_step)
            if checkpoint and ranks.is_first and (loop.finished or checkpoint.is_due()):
                checkpoint.save(loop.state())
            on_epoch(metrics)
        model.load_state_dict(loop.best_weights)
        model.cpu().eval()
        return loop.result


@contextmanager
def enough_memory(settings: Train) -> Iterator[None]:
    """Raises TrainingError if what is trained inside the block with ``settings`` takes more memory than there is."""
    try:
        yield
    except (MemoryError, RuntimeError) as problem:
        if (said := shortage(problem)) is None:
            raise
        raise TrainingError(
            f"{said}; lower train.batch_size (now {settings.batch_size}), raise train.accumulate (now "
            f"{settings.accumulate}), or lower preprocess.image_size or the sizes of the model, such as model.filters"
        ) from None
