"""What the benchmarks of training speed share: jobs that train one epoch and report images a second and memory."""

import importlib
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import harness, images
from benchmarks.harness import Benchmark, Figures, Job, Key
from benchmarks.machine import peak_memory
from benchmarks.ways import VALIDATION, Images, Labels

Way = Callable[[str, Images, Labels, int], dict[str, float]]
WARM_UP_IMAGES = 2048
SPEED = "images/s"


def arguments(about: str | None) -> ArgumentParser:
    parser = harness.arguments(about, rounds=3)
    parser.add_argument("--images", type=int, default=20_000, help="training images of the epoch")
    return parser


def conditions(options: Namespace) -> dict[str, Any]:
    return {
        "data": images.source(),
        "images": options.images,
        "validation_images": VALIDATION,
        "precision": "fp32",
        "optimizer": "AdamW",
    }


def compare(
    about: str | None,
    title: str,
    model: str,
    ways: Mapping[str, Way],
    batches: Mapping[int, Sequence[str]],
    goals: Sequence[Mapping[str, Any]],
) -> None:
    """Measure the ways of training a model beside each other."""
    options = arguments(about).parse_args()
    benchmark = Benchmark(
        title,
        jobs(model, ways, batches),
        conditions(options),
        baselines=["tutorial", "bare loop, tuned"],
        goals=goals,
    )
    harness.run(benchmark, options)


def peer(name: str) -> Callable[..., Any]:
    """A way in a file of its own, imported only where it is measured: it needs a package that may not be here."""
    return lambda *given: importlib.import_module(f"benchmarks.peers.{name}").train(*given)


def jobs(model: str, ways: Mapping[str, Way], batches: Mapping[int, Sequence[str]]) -> dict[Key, Job]:
    """One for each batch size and each of the ways named for it."""
    return {
        (f"batch {batch}", name): _job(model, ways[name], batch) for batch, names in batches.items() for name in names
    }


def _job(model: str, way: Way, batch: int) -> Job:
    def job(options: Namespace) -> Figures:
        pictures, labels = images.read(options.images + VALIDATION)
        short = VALIDATION + WARM_UP_IMAGES
        way(model, pictures[:short], labels[:short], batch)
        took = way(model, pictures, labels, batch)
        return {SPEED: options.images / took.pop("s"), "MiB, peak": peak_memory(), **took}

    return job
