"""Training from a file that need not fit in memory, beside the same images in memory.

    python -m benchmarks.cpu.mapped [--gibibytes 2] [--images 40000] [--rounds 3]

Conditions: made images of 3x32x32 in a file of --gibibytes, which was just written: the system's page cache holds it.
--images of them in random order are trained on, in fp32, batch 64, without validation, as `fit` does: from memory, into
which they were read before, or from the mapped file. Resident memory is what the process held at most while it
trained, above what it held before it opened the data. Each model is a way of its own, as a small one asks for images
fastest.
"""

import threading
import time
from argparse import Namespace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import harness
from benchmarks.harness import Benchmark, Figures, Job, run

if TYPE_CHECKING:
    import psutil

SHAPE = (3, 32, 32)
BATCH = 64
CLASSES = 10
MODELS = ("simple-cnn", "mlp")


def train(model: str, *, mapped: bool) -> Job:
    def job(options: Namespace) -> Figures:
        import numpy as np
        import psutil
        import torch

        from darkroom.config.settings import Augment, Model, Train
        from darkroom.data.batches import CPU, Split, TrainBatches
        from darkroom.data.cache import DatasetCard
        from darkroom.data.memmap import MappedImages
        from darkroom.models.classifier import build_classifier
        from darkroom.training.device import prepare
        from darkroom.training.optimizers import build_optimizer
        from darkroom.training.step import TrainStep

        count = int(options.gibibytes * (1 << 30)) // int(np.prod(SHAPE))
        path = _made_images(count)
        card = DatasetCard("made", tuple("0123456789"), SHAPE, (0.5,) * 3, (0.3,) * 3, {}, {}, "")
        classifier = build_classifier(Model(name=model), card).train()
        settings = Train(batch_size=BATCH, precision="fp32", device="cpu")
        prepare(CPU, deterministic=False)
        optimizer = build_optimizer(classifier, settings)
        process = psutil.Process()
        before = process.memory_info().rss
        labels = torch.arange(count) % CLASSES
        if mapped:
            mapping = MappedImages(path, (count, *SHAPE), 0)
            split = Split(mapping.tensor, labels, mapping)
        else:
            split = Split(torch.from_numpy(np.fromfile(path, np.uint8).reshape(count, *SHAPE)), labels)
        step = TrainStep(classifier, optimizer, split, settings, Augment(), CPU, "fp32")
        batches = TrainBatches(split, BATCH, Augment(), 0)
        peak = _Peak(process)
        with peak:
            for images, labels in islice(batches, 32):
                step(images, labels, batches.augment_generator)
            start = time.perf_counter()
            for images, labels in islice(batches, options.images // BATCH):
                step(images, labels, batches.augment_generator)
            seconds = time.perf_counter() - start
        return {"images/s": options.images // BATCH * BATCH / seconds, "MiB resident": (peak.most - before) / (1 << 20)}

    return job


class _Peak:
    """The most resident memory while the block runs, looked at a hundred times a second."""

    def __init__(self, process: "psutil.Process") -> None:
        self.process = process
        self.most = 0
        self.ended = threading.Event()
        self.watcher = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self.ended.wait(0.01):
            self.most = max(self.most, self.process.memory_info().rss)

    def __enter__(self) -> None:
        self.watcher.start()

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.watcher.join()


def _made_images(count: int) -> Path:
    """A file of so many images, in the working directory, which goes when the measurement ends."""
    import numpy as np

    path = Path("images")
    some = np.random.default_rng(0).integers(0, 256, (4096, *SHAPE), dtype=np.uint8)
    with path.open("wb") as opened:
        for start in range(0, count, len(some)):
            opened.write(some[: count - start].tobytes())
    return path


def main() -> None:
    parser = harness.arguments(__doc__, rounds=3)
    parser.add_argument("--gibibytes", type=float, default=2.0, help="size of the dataset")
    parser.add_argument("--images", type=int, default=40_000, help="images to train on")
    options = parser.parse_args()
    ways = {"in memory": False, "mapped": True}
    jobs = {(model, way): train(model, mapped=mapped) for model in MODELS for way, mapped in ways.items()}
    goals = [{"case": model, "ratio": ["mapped", "in memory"], "at_least": 0.8} for model in MODELS]
    conditions = {"gibibytes": options.gibibytes, "images": options.images, "batch": BATCH}
    run(
        Benchmark("Training from a mapped file", jobs, conditions, baselines=["in memory"], goals=goals),
        options,
    )


if __name__ == "__main__":
    main()
