"""One training divided among processes on the CPU: how much faster it is than in one.

    python -m benchmarks.scale.devices [--images 20000] [--rounds 3]

Conditions: `darkroom train` with train.devices, on Fashion-MNIST from data/raw (made images of the same shape without
it), fp32, batches of 256, three epochs, 2,000 validation images. The processes divide the cores. More processes than
cores are refused by train.devices; torchrun starts them, with one thread each. Images a second are those of the second
and third epoch, validation included. "s" are those of the whole command, in which processes start and import torch.
"""

import csv
import statistics
import subprocess
import tempfile
import time
from argparse import Namespace
from contextlib import chdir
from pathlib import Path

from benchmarks import images, project, training
from benchmarks.harness import Benchmark, Figures, Job, run
from benchmarks.training import SPEED
from benchmarks.ways import VALIDATION

from darkroom.training.device import cores

BATCH = 256
EPOCHS = 3
MODELS = {"MLP": "mlp", "CNN": "simple-cnn"}
COUNTS = {"1 process": 1, "2 processes": 2, "4 processes": 4}


def divided(model: str, count: int) -> Job:
    """The training in ``count`` processes."""

    def job(options: Namespace) -> Figures:
        enough = count <= len(cores())
        pictures, labels = images.read(options.images + VALIDATION)
        with tempfile.TemporaryDirectory(dir=".") as place, chdir(place):
            project.write_params(
                {
                    "dataset.name": "fashion-mnist",
                    "model.name": model,
                    "train.epochs": EPOCHS,
                    "train.batch_size": BATCH,
                    "train.device": "cpu",
                    "train.devices": count if enough else 1,
                    "train.precision": "fp32",
                    "search.trials": 0,
                }
            )
            project.prepare(pictures, labels, VALIDATION)
            start = time.perf_counter()
            if enough:
                project.darkroom("train")
            else:
                subprocess.run(
                    ["torchrun", f"--nproc-per-node={count}", "--no-python", "darkroom", "train"], check=True
                )
            command = time.perf_counter() - start
            with Path("reports/train/history.csv").open(encoding="utf-8", newline="") as opened:
                _, *epochs = (float(row["seconds"]) for row in csv.DictReader(opened))
        return {SPEED: options.images / statistics.mean(epochs), "s": command}

    return job


def main() -> None:
    options = training.arguments(__doc__).parse_args()
    jobs = {(name, way): divided(model, count) for name, model in MODELS.items() for way, count in COUNTS.items()}
    conditions = training.conditions(options) | {"batch_size": BATCH, "epochs": EPOCHS}
    benchmark = Benchmark("One training in several processes", jobs, conditions, baselines=["1 process"])
    run(benchmark, options)


if __name__ == "__main__":
    main()
