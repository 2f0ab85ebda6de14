"""Seconds to train the speed-run recipes on a GPU, and what they reach on the test split.

    python -m benchmarks.gpu.speedruns [RECIPE ...] [--runs 5] [--rounds 2] [--airbench PATH]
    python -m benchmarks.gpu.speedruns mnist-mlp --device cpu --images 256 --epochs 1 --results build

Conditions: each recipe as it is written, and once more with train.compile max-autotune, prepared by `darkroom
download` and `darkroom preprocess` in build/speedruns; in each round a process that warms up with one epoch and then
trains --runs times with new seeds. Seconds are those of `train_classifier` from uint8 images in the host's memory:
building the network, its first look at the images, copying them to the device, all epochs with their validation; what
went into compiling stands apart, and so does the first training, in which all is cold. The test split is measured
afterwards, in fp32.
--airbench runs that script in turn with the recipes, in its own directory, as many times; it is stopped then. Its own
seconds count the training and its test-time augmentation on the test images, but no validation.
The second line of usage is for seeing whether this script works where there is no GPU.
"""

import contextlib
import os
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness, project
from benchmarks.harness import Benchmark, Figures, Job, NotHere, run
from benchmarks.machine import ROOT

RECIPES = ("mnist-99", "mnist-995", "fashion-mnist-94", "cifar10-fast")
COMPILED = "max-autotune"
PREPARED = ROOT / "build" / "speedruns"
SECONDS, ACCURACY = "s to train", "test accuracy, %"
COMPILING, FIRST = "s, compiling", "s, first training"
TEST_BATCH = 1000


def recipe(name: str, mode: str = "none") -> Job:
    def job(options: Namespace) -> Figures:
        import torch

        from darkroom.config import load
        from darkroom.data.batches import Split, read_split
        from darkroom.data.cache import DatasetCard

        if options.device == "cuda" and not torch.cuda.is_available():
            raise NotHere("there is no CUDA device on this machine")
        path = ROOT / "recipes" / f"{name}.yaml"
        if not path.exists():
            raise NotHere("there is no recipe of this name")
        changes: dict[str, Any] = {"train.device": options.device, "train.compile": mode}
        if options.epochs:
            changes |= {"train.epochs": options.epochs, "train.warmup_epochs": 0}
        config = load(path).with_settings(changes)
        cache = _prepare(name, path) / "data" / "processed" / config.dataset.name
        card = DatasetCard.read(cache)
        splits = {part: read_split(cache, card, part) for part in ("train", "val", "test")}
        if options.images:
            splits = {
                part: Split(split.images[: options.images], split.labels[: options.images])
                for part, split in splits.items()
            }
        first = _train(config.with_settings({"train.epochs": 1, "train.warmup_epochs": 0}), card, splits)
        runs = [_train(config, card, splits) for _ in range(options.runs)]
        tta = config.evaluate.tta
        augmented = {} if tta == "none" else {f"{ACCURACY}, {tta}": [run.augmented_accuracy for run in runs]}
        return {
            SECONDS: [run.seconds for run in runs],
            ACCURACY: [run.accuracy for run in runs],
            **augmented,
            COMPILING: [run.compiling for run in runs],
            FIRST: first.seconds + first.compiling,
        }

    return job


def _prepare(name: str, recipe: Path) -> Path:
    """What was fetched in an earlier round is not fetched again."""
    directory = PREPARED / name
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(directory):
        project.write_params({}, recipe)
        project.darkroom("download")
        project.darkroom("preprocess")
    return directory


@dataclass(frozen=True)
class Training:
    """Accuracies are in percent; the seconds are without those of compiling."""

    seconds: float
    compiling: float
    accuracy: float
    augmented_accuracy: float


def _train(config: Any, card: Any, splits: dict[str, Any]) -> Training:
    from darkroom.training.session import train_classifier

    config = config.with_settings({"train.seed": int.from_bytes(os.urandom(3))})
    start = time.perf_counter()
    classifier, result = train_classifier(config, card, splits["train"], splits["val"])
    seconds = time.perf_counter() - start - result.warm_up_seconds
    accuracies = [_accuracy(classifier, splits["test"], config, tta) for tta in ("none", config.evaluate.tta)]
    return Training(seconds, result.warm_up_seconds, *accuracies)


def _accuracy(classifier: Any, test: Any, config: Any, tta: str) -> float:
    import torch

    from darkroom.evaluation.views import average_logits

    device = torch.device(config.train.device)
    classifier.to(device)
    with torch.no_grad():
        right = sum(
            (average_logits(classifier, images, tta).argmax(1) == labels).sum().item()
            for images, labels in test.in_order(TEST_BATCH, device)
        )
    return 100 * right / len(test)


def airbench(options: Namespace) -> Figures:
    """The rows that the script prints behind each of its trainings, of which the first is its warm-up."""
    import torch

    if not torch.cuda.is_available():
        raise NotHere("there is no CUDA device on this machine")
    if options.airbench is None:
        raise NotHere("its script was not given (--airbench)")
    command = [sys.executable, "-u", str(options.airbench)]
    rows = []
    with subprocess.Popen(command, cwd=options.airbench.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if final := final_row(line):
                rows.append(final)
            if len(rows) > options.runs:
                process.terminate()
                break
    if len(rows) <= options.runs:
        raise RuntimeError(f"{options.airbench.name} ended after {len(rows)} of {options.runs + 1} trainings")
    first, *runs = rows
    return {
        SECONDS: [seconds for _, _, seconds in runs],
        ACCURACY: [100 * accuracy for accuracy, _, _ in runs],
        f"{ACCURACY}, flip-translate": [100 * accuracy for _, accuracy, _ in runs],
        FIRST: first[-1],
    }


def final_row(line: str) -> tuple[float, float, float] | None:
    """Accuracy, accuracy with test-time augmentation and seconds, if the line tells of the end of a training."""
    cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
    if len(cells) != 6 or cells[1] != "eval":
        return None
    return float(cells[3]), float(cells[4]), float(cells[5])


def main() -> None:
    parser = harness.arguments(__doc__, rounds=2)
    parser.add_argument("recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--runs", type=int, default=5, help="trainings of each recipe in a round")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--images", type=int, help="of each split, instead of all")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--airbench", type=lambda path: Path(path).resolve(strict=True), help="airbench94_muon.py")
    options = parser.parse_args()
    jobs: dict[harness.Key, Job] = {("", name): recipe(name) for name in options.recipes}
    jobs |= {("", f"{name}, compiled"): recipe(name, COMPILED) for name in options.recipes}
    jobs["", "airbench94_muon.py"] = airbench
    asked = ("device", "images", "epochs", "runs")
    conditions = {key: getattr(options, key) for key in asked if getattr(options, key) is not None}
    run(Benchmark(title="Speed-run recipes on a GPU", jobs=jobs, conditions=conditions), options)


if __name__ == "__main__":
    main()
