"""Cross-validate the settings on all images of a dataset, test split included."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from darkroom.audit.folds import assign_folds
from darkroom.audit.images import Blocks, blocks_of, fold_images
from darkroom.audit.out_of_fold import OutOfFold, ask_each_fold, epochs_of
from darkroom.config import Config
from darkroom.data.batches import Split, read_split
from darkroom.data.cache import SPLITS, DatasetCard, read_groups
from darkroom.errors import DataError
from darkroom.features.body import BATCH, Body, fastest, feature_function
from darkroom.features.head import Head, class_layer, new_head, open_head
from darkroom.features.task import head_config
from darkroom.models.class_layer import ClassLayer, combine
from darkroom.models.classifier import Classifier
from darkroom.promotion.training_setup import set_up_training
from darkroom.training.fit import start_classifier
from darkroom.utils.console import messages, progress
from darkroom.utils.files import digest
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace

FORMAT = 2


@dataclass(frozen=True)
class Subject:
    """What is cross-validated: ``config`` with its precision and initial weights resolved, trained on ``device``.

    Of a pretrained model whose head alone is trained, ``head`` holds the body, and ``trained`` and ``card`` are the
    settings and the card of the head on features; otherwise they are those of the whole model on images. ``classes`` is
    the layer of known classes from which the head is combined, if it is. ``key`` is the digest of all that a model
    depends on beside its images.
    """

    trained: Config
    card: DatasetCard
    device: torch.device
    head: Head | None
    classes: ClassLayer | None
    key: str

    @classmethod
    def open(cls, config: Config, workspace: Workspace, card: DatasetCard) -> Self:
        """Compute the features that are needed, if any.

        Raises CacheError, ModelError, ConfigError or TrackingError.
        """
        config, device, beginning = set_up_training(config, workspace, card)
        sections = config.model_dump(mode="json", include={"model", "augment", "train", "audit"})
        start = beginning.digest if beginning else None
        key = digest(
            {
                "format": FORMAT,
                "dataset": card.fingerprint,
                "settings": sections,
                "device": device.type,
                "start": start,
            }
        )
        head = open_head(config, workspace, card, device)
        if head:
            classes = class_layer(config, head.features)
            return cls(head_config(config, views=1), head.features.card, device, head, classes, key)
        return cls(config, card, device, None, None, key)

    def start(self, config: Config, card: DatasetCard, train: Split, device: torch.device) -> Classifier:
        """The initial model of a fold, which has seen the labels of ``train`` alone."""
        if not self.head:
            return start_classifier(config, card, train, device)
        initial = combine(self.classes, train, len(card.classes)) if self.classes else None
        return new_head(config, card, train, device, initial)

    def features(self, images: Split) -> Blocks:
        """What a head is given of ``images``: float32 [n, features, 1, 1] for each n of them."""
        assert self.head, "only a head has features"
        body = Body(self.head.whole.to(self.device))
        plain = feature_function(body, self.device)
        example = images.images[: BATCH["cpu"]].to(self.device)
        function, _ = fastest(body, plain, example, len(images))
        for batch, _ in images.in_order(BATCH["cuda"], self.device):
            yield function(batch).float().cpu()[:, :, None, None]


def cross_validate(config: Config, workspace: Workspace, card: DatasetCard) -> OutOfFold:
    """What models that have not seen an image say of it, for all images of train, val and test in this order.

    Images that show the same picture, or are of one group, are in one fold. Models and features are kept in the
    checkout until data or settings change: an interrupted audit resumes, and a second one trains nothing.

    Raises DataError if there are too few images, CacheError, ModelError, ConfigError, TrackingError or TrainingError.
    """
    directory = workspace.processed(config.dataset.name)
    splits = [read_split(directory, card, name) for name in SPLITS]
    labels = np.concatenate([split.labels.numpy() for split in splits])
    folds = folds_of(config, labels, read_groups(directory, len(labels)))
    subject = Subject.open(config, workspace, card)
    store = workspace.audit(subject.key)
    for other in set(store.parent.glob("[0-9a-f]*")) - {store}:  # of other data or settings
        shutil.rmtree(other, ignore_errors=True)
    with open_scratch(store) as scratch, progress() as display:
        writing = display.add_task("fold images", total=len(labels), note="")
        folded = fold_images(
            _blocks(subject, splits), labels, folds, scratch, lambda images: display.advance(writing, images)
        )
        display.remove_task(writing)
        total = folded.count * epochs_of(config, folded.train_size)
        training = display.add_task("audit", total=total, note=f"epochs of {folded.count} models")
        answers = ask_each_fold(
            subject.trained,
            subject.card,
            folded,
            folded.held_out,
            subject.device,
            store,
            subject.key,
            lambda fold: display.advance(training),
            subject.start,
        )
    return OutOfFold.gather(answers, folded)


@contextmanager
def open_scratch(store: Path) -> Iterator[Path]:
    """A file for folded images beside ``store``, which is made if it is missing and is what Ctrl-C leaves."""
    store.mkdir(parents=True, exist_ok=True)
    try:
        with scratch_directory(store.parent) as scratch:
            yield scratch / "images"
    except KeyboardInterrupt:
        messages.print("interrupted; the same command resumes")
        raise


def folds_of(config: Config, labels: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fold of each image [N]. Raises DataError if there are too few."""
    try:
        return assign_folds(labels, groups, config.audit.folds, config.train.seed)
    except ValueError as problem:
        raise DataError(f"audit.folds: {problem}; lower it, or add images") from None


def _blocks(subject: Subject, splits: Sequence[Split]) -> Blocks:
    """Of a head the features of the images themselves, without further views; those of test are kept nowhere else."""
    if subject.head:
        features = subject.head.features
        yield from blocks_of(features.train)
        yield from blocks_of(features.val)
        yield from subject.features(splits[-1])
    else:
        for split in splits:
            yield from blocks_of(split)
