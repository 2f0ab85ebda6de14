"""Do the fixes help? Train with and without them, and compare both on test images that neither has learned."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom.audit.arms import Arm, make_arms
from darkroom.audit.cross_validation import Subject, folds_of, open_scratch
from darkroom.audit.images import BLOCK_BYTES, Blocks, fold_images
from darkroom.audit.out_of_fold import ask_each_fold, epochs_of
from darkroom.config import Config
from darkroom.data.batches import Split
from darkroom.data.cache import DatasetCard
from darkroom.datasets.catalog import CATALOG
from darkroom.datasets.fixes import read_fixes
from darkroom.errors import DataError
from darkroom.evaluation.comparison import Comparison
from darkroom.evaluation.predictions import SplitPredictions
from darkroom.evaluation.reference import calibrated
from darkroom.utils.console import progress, reporter
from darkroom.utils.files import digest
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace

# Until the end: who is interrupted resumes.
STORE = "with-fixes"

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Effect:
    """The models without (a) and with (b) the fixes, compared on test images that no fix changes.

    ``left_out`` counts those that were not compared, since either may have learned their pictures.
    """

    comparison: Comparison
    left_out: int


def measure_effect(config: Config, workspace: Workspace, card: DatasetCard) -> Effect:
    """Compare training without and with data/fixes.csv.

    For each fold of the images of train and val, a model is trained on all others, without and with the fixes; the mean
    probability of the models of one arm is its answer. Raises DataError if there are no fixes, or none that change
    what is learned from; if no test image is left; CacheError, ModelError, ConfigError, TrackingError or TrainingError.
    """
    fixes = read_fixes(workspace.fixes)
    if not any(fix.decision != "keep" for fix in fixes):
        raise DataError(
            f"{workspace.fixes}: no fix that drops, relabels or moves an image; decide on some in "
            "reports/audit/index.html, which `darkroom audit` writes"
        )
    store = workspace.audit(STORE)
    store.mkdir(parents=True, exist_ok=True)
    with scratch_directory(store.parent) as scratch:
        with reporter() as report:
            decoded = CATALOG[config.dataset.name].decode(
                workspace.raw(config.dataset.name), config.preprocess, scratch, report
            )
            arms = make_arms(fixes, decoded, config, scratch, report)
        groups = np.arange(len(decoded.labels)) if decoded.groups is None else decoded.groups
        folds = np.full(len(decoded.labels), -1)
        either = np.union1d(*(arm.rows for arm in arms.both))
        folds[either] = folds_of(config, decoded.labels[either], groups[either])
        subject = Subject.open(config, workspace, card)
        inputs = _inputs(subject, decoded.images, scratch / "features")
        answers = [_ask(config, subject, inputs, arm, folds, arms.test, workspace) for arm in arms.both]
    shutil.rmtree(store)
    a, b = (_predictions(found, decoded.labels[arms.test], card.classes, arms.test) for found in answers)
    return Effect(Comparison(a, b), arms.left_out)


def _inputs(subject: Subject, images: NDArray[np.uint8], path: Path) -> Tensor:
    """What is trained on, of all decoded images: themselves, or their features mapped from ``path``."""
    whole = torch.from_numpy(images)
    if not subject.head:
        return whole
    labels = torch.zeros(len(images), dtype=torch.int64)
    stored: NDArray[np.float32] | None = None
    done = 0
    for block in subject.features(Split(whole, labels)):
        if stored is None:
            stored = np.memmap(path, dtype=np.float32, mode="w+", shape=(len(images), *block.shape[1:]))
        stored[done : done + len(block)] = block.numpy()
        done += len(block)
    return torch.from_numpy(stored)


def _ask(
    config: Config, subject: Subject, inputs: Tensor, arm: Arm, folds: Ints, test: Ints, workspace: Workspace
) -> NDArray[np.float64]:
    """The mean probabilities of the models of an arm for the images ``test``, float64 [n, classes]."""
    key = digest([subject.key, arm.name, arm.rows.tolist(), arm.labels.tolist()])
    asked = Split(inputs[torch.from_numpy(test)], torch.zeros(len(test), dtype=torch.int64))
    store = workspace.audit(STORE) / key[:16]
    with open_scratch(store) as path, progress() as display:
        folded = fold_images(_blocks(inputs, arm.rows), arm.labels, folds[arm.rows], path)
        total = folded.count * epochs_of(config, folded.train_size)
        task = display.add_task(f"{arm.name} the fixes", total=total, note=f"epochs of {folded.count} models")
        answers = ask_each_fold(
            subject.trained,
            subject.card,
            folded,
            lambda fold: asked,
            subject.device,
            store,
            key,
            lambda fold: display.advance(task),
            subject.start,
        )
    mean: NDArray[np.float64] = np.mean([calibrated(logits, 1.0) for logits, _ in answers], axis=0)
    return mean


def _blocks(inputs: Tensor, rows: Ints) -> Blocks:
    step = max(1, BLOCK_BYTES // inputs[0].nbytes)
    chosen: Iterator[Tensor] = iter(torch.from_numpy(rows).split(step))
    for block in chosen:
        yield inputs[block]


def _predictions(
    probabilities: NDArray[np.float64], labels: Ints, classes: tuple[str, ...], images: Ints
) -> SplitPredictions:
    return SplitPredictions(
        classes,
        tuple(map(str, images.tolist())),
        labels,
        probabilities.argmax(axis=1),
        probabilities.max(axis=1),
    )
