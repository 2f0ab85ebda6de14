"""The precision for ``train.precision: auto``: the fastest for this model on this machine, found by trying."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from darkroom.config import Config
from darkroom.data.batches import Split
from darkroom.data.cache import DatasetCard
from darkroom.models.classifier import build_classifier
from darkroom.models.registry import resolve
from darkroom.training.device import choose_precision, precisions, prepare
from darkroom.training.loop import TrainingLoop
from darkroom.utils.files import digest

# Steps of one round, whose shortest counts.
STEPS = 2
# About how long the rounds take together.
MEASURE_SECONDS = 0.3
ROUNDS = (2, 20)
# More than there are rounds, so that there is a rate for each.
EPOCHS = 100
# A narrower one is taken only if a step takes at most this share of the time.
GAIN = 0.97


@dataclass(frozen=True)
class Precision:
    """The ``name`` of what was chosen, and the seconds of a step in each that was tried, if any was."""

    name: str
    step_seconds: Mapping[str, float]

    def put_into(self, config: Config) -> Config:
        """``config``, all of it, with this precision."""
        return config.model_copy(update={"train": config.train.model_copy(update={"precision": self.name})})

    def tags(self) -> dict[str, dict[str, float]]:
        """For the run, beside the name."""
        return {"system.step_seconds": dict(self.step_seconds)} if self.step_seconds else {}


def fastest_precision(config: Config, card: DatasetCard, device: torch.device, threads: int | None = None) -> Precision:
    """What a training takes: as written, or for "auto" what is fastest, on ``threads`` of the CPU (all by default).

    The choice for a machine, a model and a batch is kept in the user's cache directory: it stays the same. torch's
    generators are left as they were.

    Raises ConfigError for a precision that the device does not have, ModelError if the model does not fit the images.
    """
    known = precisions(device)
    if config.train.precision != "auto":
        return Precision(choose_precision(config.train, device), {})
    if len(known) == 1:
        return Precision(known[0], {})
    threads = threads or torch.get_num_threads()
    path = cache_directory() / "precision" / f"{digest(_case(config, card, device, threads))}.json"
    found = _read(path, known)
    if found is None:
        seconds = step_seconds(config, card, device, known, threads)
        found = _keep(path, Precision(_best(seconds), seconds), known)
    return found


def cache_directory() -> Path:
    """Where choices are kept: DARKROOM_CACHE, else the user's cache directory."""
    if place := os.environ.get("DARKROOM_CACHE"):
        return Path(place)
    import pooch  # only where there is something to keep: a training starts without it

    return Path(pooch.os_cache("darkroom"))


def step_seconds(
    config: Config, card: DatasetCard, device: torch.device, names: tuple[str, ...], threads: int
) -> dict[str, float]:
    """The shortest time of a step of the model on random images, in each of the precisions ``names``."""
    before = torch.get_num_threads()
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.set_num_threads(threads)
        try:
            loops = {name: _loop(config, card, device, name) for name in names}
            took = {name: [_pass(loop)] for name, loop in loops.items()}
            least, most = ROUNDS
            rounds = int(MEASURE_SECONDS / sum(seconds[0] for seconds in took.values()))
            for _ in range(min(max(rounds, least), most)):
                for name, loop in loops.items():
                    took[name].append(_pass(loop))
        finally:
            torch.set_num_threads(before)
    # The first of each warmed it up.
    return {name: min(seconds[1:]) / STEPS for name, seconds in took.items()}


def _loop(config: Config, card: DatasetCard, device: torch.device, name: str) -> TrainingLoop:
    settings = config.train.model_copy(update={"precision": name, "epochs": EPOCHS})
    torch.manual_seed(0)
    count = STEPS * settings.batch_size
    images = torch.randint(0, 256, (count, *card.shape), dtype=torch.uint8)
    split = Split(images.to(device), torch.randint(0, len(card.classes), (count,)).to(device))
    prepare(device, deterministic=settings.deterministic)
    loop = TrainingLoop(build_classifier(config.model, card).to(device), split, split, settings, config.augment, device)
    loop.warm_up()
    return loop


def _pass(loop: TrainingLoop) -> float:
    start = time.perf_counter()
    loop.train_pass()  # which ends with reading the loss: the device is done
    return time.perf_counter() - start


def _best(seconds: Mapping[str, float]) -> str:
    """The first, which is the widest, unless another is faster by more than chance."""
    name = next(iter(seconds))
    for other, took in seconds.items():
        if took < GAIN * seconds[name]:
            name = other
    return name


def _case(config: Config, card: DatasetCard, device: torch.device, threads: int) -> dict[str, Any]:
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else dict(torch.cpu.get_capabilities()),
        "cores": os.cpu_count(),
        "threads": threads,
        "torch": torch.__version__,
        "model": {"name": config.model.name, **resolve(config.model)},
        "train": config.train.model_dump(
            mode="json", include={"batch_size", "accumulate", "optimizer", "compile", "deterministic", "ema"}
        ),
        "augment": config.augment.model_dump(mode="json"),
        "images": [*card.shape, len(card.classes)],
    }


def _read(path: Path, known: tuple[str, ...]) -> Precision | None:
    try:
        found = TypeAdapter(Precision).validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.name in known else None


def _keep(path: Path, chosen: Precision, known: tuple[str, ...]) -> Precision:
    """What is kept from now on: of two processes that choose at once both take what the first has written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        own = path.with_suffix(f".{os.getpid()}")
        own.write_bytes(TypeAdapter(Precision).dump_json(chosen))
        try:
            os.link(own, path)
        except FileExistsError:
            if (found := _read(path, known)) is not None:
                return found
            own.replace(path)  # what is there is damaged
        finally:
            own.unlink(missing_ok=True)
    except OSError:
        pass  # without a cache directory it is measured each time
    return chosen
