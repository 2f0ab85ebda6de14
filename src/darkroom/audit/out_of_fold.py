"""Train a model for each fold on the images of all others, and ask it about images that it has not seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from darkroom.audit.images import FoldedImages
from darkroom.config import Config
from darkroom.data.batches import Split, place
from darkroom.data.cache import DatasetCard
from darkroom.models.classifier import Classifier
from darkroom.models.network import record_features
from darkroom.search.fused.loop import FusedLoop, SingleLoop, why_not
from darkroom.search.plan import most_at_once
from darkroom.training.checkpoint import Checkpoint
from darkroom.training.cuda_graph import CudaGraphs
from darkroom.training.device import autocast, prepare
from darkroom.training.fit import enough_memory, start_classifier
from darkroom.training.loop import TrainingLoop
from darkroom.utils.files import atomic_file

# Passes over images that all epochs of a model are together, where no number of epochs is given.
MOST_PASSES = 300_000
# A training is watched on some of its own images: what it must never see cannot choose an epoch.
WATCHED = 512
# Images of a batch without gradients: more take more memory and are no faster.
ASKED_AT_ONCE = 256


# Of one model: logits [n, classes], and what its last layer is given [n, D].
Answers = tuple[NDArray[np.float32], NDArray[np.float16]]
# As `start_classifier`: of settings, a card, the train split and a device the initial model.
Start = Callable[[Config, DatasetCard, Split, torch.device], Classifier]


@dataclass(frozen=True)
class OutOfFold:
    """What the model of its fold says of each of N images, in the order of the dataset.

    ``logits`` float32 [N, classes]; ``features`` float16 [N, D] are what the last layer is given, comparable within a
    fold only; ``folds`` int64 [N].
    """

    logits: NDArray[np.float32]
    features: NDArray[np.float16]
    folds: NDArray[np.int64]

    @classmethod
    def gather(cls, answers: Sequence[Answers], folded: FoldedImages) -> Self:
        """From the ``answers`` of each fold's model about the images held out from it."""
        place = np.argsort(folded.rows)
        logits, features = (np.concatenate(parts)[place] for parts in zip(*answers, strict=True))
        folds = np.repeat(np.arange(folded.count), np.diff(folded.begins))[place]
        return cls(logits, features, folds)


def epochs_of(config: Config, images: int) -> int:
    """How many epochs each model is trained on ``images`` images."""
    if config.audit.epochs is not None:
        return config.audit.epochs
    return min(config.train.epochs, max(1, ceil(MOST_PASSES / images)))


def ask_each_fold(
    config: Config,
    card: DatasetCard,
    folded: FoldedImages,
    asked: Callable[[int], Split],
    device: torch.device,
    store: Path,
    key: str,
    on_epoch: Callable[[int], None] = lambda fold: None,
    start: Start = start_classifier,
) -> list[Answers]:
    """Train a model for each fold, on all others, and return what it says of the images that ``asked`` gives for it.

    That are its logits, which are the mean of those after each epoch of the second half, and what its last layer is
    given. A single epoch's answers about hard images are a matter of chance (as in "Snapshot Ensembles", Huang et al.,
    ICLR 2017, and in Pleiss et al., "Identifying Mislabeled Data using the Area Under the Margin Ranking", NeurIPS
    2020). ``config`` and ``card`` are those of what is trained: of a pretrained model, the head on features. Finished
    folds and checkpoints are kept in the directory ``store``, so that what was interrupted resumes; ``key`` identifies
    data and settings. ``on_epoch`` is called with the fold after each epoch of each model, for finished ones too;
    ``start`` makes the initial model of each fold.

    Raises TrainingError if the loss of a model diverges or the memory does not suffice, ModelError or ConfigError if
    the settings do not fit the images.
    """
    training = _Training(config, card, folded, asked, device, store, key, on_epoch, start)
    with enough_memory(config.train):
        prepare(device, deterministic=config.train.deterministic)
        for folds in training.groups():
            training.run(folds)
    return [training.read(fold) for fold in range(folded.count)]


class _Training:
    """The trainings of all folds, with what is known of them in the directory ``store``."""

    def __init__(
        self,
        config: Config,
        card: DatasetCard,
        folded: FoldedImages,
        asked: Callable[[int], Split],
        device: torch.device,
        store: Path,
        key: str,
        on_epoch: Callable[[int], None],
        start: Start,
    ) -> None:
        self.config, self.card, self.asked, self.device = config, card, asked, device
        (images,) = place(device, folded.images)
        self.folded = replace(folded, images=images)
        self.store, self.key, self.on_epoch, self.start = store, key, on_epoch, start
        self.epochs = epochs_of(config, folded.train_size)
        self.fuses = why_not(config) is None and most_at_once(config, device)[1] > 1

    def groups(self) -> list[list[int]]:
        """The folds that are still to be trained, those that are one program together."""
        missing = [fold for fold in range(self.folded.count) if not self._path(fold).exists()]
        for fold in set(range(self.folded.count)) - set(missing):
            for _ in range(self.epochs):
                self.on_epoch(fold)
        if not missing:
            return []
        return [missing] if self.fuses else [[fold] for fold in missing]

    def run(self, folds: list[int]) -> None:
        """Train the models of ``folds`` side by side, and keep what they say."""
        recorder = CudaGraphs() if self.device.type == "cuda" else None
        loops: FusedLoop[int] | SingleLoop[int] = FusedLoop(recorder) if self.fuses else SingleLoop()
        for fold in folds:
            loops.add(fold, self._begin(fold))
        answers: dict[int, tuple[Tensor, Tensor]] = {}
        checkpoint = Checkpoint(self.store / "training.pt", f"{self.key}-{folds}")
        for name, (state, *given) in (checkpoint.load() or {}).items():
            loops.loops[int(name)].load_state(state)
            answers |= {int(name): (given[0], given[1])} if given else {}
            for _ in state["history"]:
                self.on_epoch(int(name))
        while not all(loop.finished for loop in loops.loops.values()):
            for fold, found in loops.run_epoch().items():
                if isinstance(found, Exception):
                    raise found
                loop = loops.loops[fold]
                if found.epoch > self.epochs // 2:
                    logits, features = ask(loop.validated_model, self.asked(fold), self.device, loop.precision)
                    before = answers[fold][0] if fold in answers else torch.zeros(())
                    answers[fold] = (before + logits / ceil(self.epochs / 2), features)
                self.on_epoch(fold)
            if checkpoint.is_due():
                checkpoint.save(
                    {str(fold): (loop.state(), *answers.get(fold, ())) for fold, loop in loops.loops.items()}
                )
        for fold, (logits, features) in answers.items():
            with atomic_file(self._path(fold)) as partial, partial.open("wb") as opened:
                np.savez(opened, logits=logits.numpy(), features=features.numpy())
        checkpoint.remove()

    def read(self, fold: int) -> Answers:
        """What the model of ``fold`` says: logits and features."""
        with np.load(self._path(fold)) as found:
            return found["logits"], found["features"]

    def _path(self, fold: int) -> Path:
        return self.store / f"fold-{fold}.npz"

    def _begin(self, fold: int) -> TrainingLoop:
        settings = self.config.train
        changes: dict[str, Any] = {"epochs": self.epochs, "patience": None, "seed": settings.seed + fold}
        changes["warmup_epochs"] = min(settings.warmup_epochs, self.epochs - 1)
        config = self.config.model_copy(update={"train": settings.model_copy(update=changes)})
        train = self.folded.train(fold)
        model = self.start(config, self.card, train, self.device)
        watched = Split(train.images[:WATCHED], train.labels[:WATCHED], train.mapping)
        loop = TrainingLoop(model, train, watched, config.train, config.augment, self.device)
        if not self.fuses:
            loop.warm_up()
        return loop


@torch.no_grad()
def ask(model: nn.Module, split: Split, device: torch.device, precision: str) -> tuple[Tensor, Tensor]:
    """The logits float32 [N, classes] of ``model`` for ``split``, and what its last layer is given, float16 [N, D]."""
    model.eval()
    logits = []
    with record_features(model) as features:
        for images, _ in split.in_order(split.at_once(ASKED_AT_ONCE, device), device):
            with autocast(device, precision):
                logits.append(model(images).float().cpu())
    return torch.cat(logits), torch.cat(features)
