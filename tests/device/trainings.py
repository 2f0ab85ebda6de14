"""Small trainings of every architecture, on any device."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator

from darkroom.config import Config, parse
from darkroom.data.batches import Split, place
from darkroom.data.cache import DatasetCard
from darkroom.training.fit import start_classifier
from darkroom.training.loop import TrainingLoop

SIDE, IMAGES, CLASSES = 17, 20, 3
MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"model.name": "mlp", "model.hidden": [6, 5]},
    "simple-cnn": {"model.name": "simple-cnn", "model.filters": [3, 4], "model.hidden": [6], "model.dropout": 0.0},
    "fast-cnn": {"model.name": "fast-cnn", "model.filters": [25, 26, 27]},
    "resnet 9": {"model.name": "resnet", "model.depth": 9, "model.width": 2},
    "resnet 10": {"model.name": "resnet", "model.depth": 10, "model.width": 2},
    "wide-resnet": {"model.name": "wide-resnet", "model.depth": 10, "model.widen_factor": 1},
}
# On the backbone of conftest.py. In its second epoch more layers learn than in its first.
PRETRAINED: dict[str, dict[str, Any]] = {
    "pretrained": {"model.name": "pretrained", "model.backbone": "tiny", "model.train": "all"},
}
ALL_MODELS = MODELS | PRETRAINED
CARD = DatasetCard(
    name="made up", classes=("a", "b", "c"), shape=(1, SIDE, SIDE), mean=(0.5,), std=(0.3,),
    sizes={"train": IMAGES, "val": 9, "test": 0}, settings={}, fingerprint="0" * 64,
)  # fmt: skip


class Rerun:
    """Stands for CUDA graphs on a CPU: what was recorded is done again. ``after`` follows each repetition."""

    def __init__(self, after: Callable[[], None] = lambda: None) -> None:
        self.after = after
        self.recorded = 0

    def warm_up(self, work: Callable[[], None]) -> None:
        work()

    def record(self, work: Callable[[], None], generators: Sequence[Generator]) -> Callable[[], None]:
        self.recorded += 1

        def replay() -> None:
            work()
            self.after()

        return replay

    def run_concurrently(self, works: Sequence[Callable[[], None]]) -> None:
        for work in works:
            work()

    def wait(self) -> None:
        pass


def images(count: int, seed: int) -> Split:
    """On the CPU; classes are of different sizes."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    return Split(pixels, (torch.rand(count, generator=generator) ** 2 * CLASSES).long())


def configured(device: torch.device, model: str, **changes: Any) -> Config:
    """Changes are given as section__key=value."""
    written = parse({"train": {"epochs": 3, "batch_size": 8, "precision": "fp32", "device": device.type}}, where="")
    given = {key.replace("__", "."): value for key, value in changes.items()}
    return written.with_settings(ALL_MODELS[model] | given)


def begin(config: Config, device: torch.device, *, on_host: bool = False) -> TrainingLoop:
    """A training, whose images stay in the host's memory if asked for."""
    train, val = images(IMAGES, 0), images(9, 1)
    if not on_host:
        train, val = place(device, train, val)
    classifier = start_classifier(config, CARD, train, device)
    return TrainingLoop(classifier, train, val, config.train, config.augment, device)


def weights(loop: TrainingLoop) -> torch.Tensor:
    """All of them behind each other, on the CPU: float64 [n]."""
    return torch.cat([each.detach().flatten() for each in loop.validated_model.parameters()]).cpu().double()


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The norm of the difference over that of what was expected."""
    return ((found.cpu().double() - expected.cpu().double()).norm() / expected.cpu().double().norm()).item()
