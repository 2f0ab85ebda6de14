"""Seconds to train the speed-run recipes, and what they reach on the test split.

Seconds are those of ``train_classifier`` from uint8 images in the host's memory: building the network, its first look
at the images, copying them to the device, all epochs with their validation. What went into compiling, capturing and
the first launches stands apart, and so does the first training, in which all is cold. The others have the precision
that `auto` measures as the fastest, without compiling. The test split is measured afterwards, in fp32.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from benchmarks.gpu.measurements.data import Data, recipe
from benchmarks.gpu.measurements.session import Session
from benchmarks.gpu.measurements.training import in_fastest_precision
from benchmarks.harness import NotHere

from darkroom.config import Config
from darkroom.data.batches import Split
from darkroom.evaluation.tta import average_logits
from darkroom.models.classifier import Classifier
from darkroom.training.fit import train_classifier

SECONDS, ACCURACY = "s to train", "test accuracy, %"
EPOCH = "s an epoch"
WARM_UP, FIRST = "s, warm-up", "s, first training"
TEST_BATCH = 2000
AIRBENCH = "airbench94_muon.py"
AIRBENCH_RUNS = 15


def speedrun(name: str, runs: int, *, case: str, compile_mode: str = "none") -> Callable[[Session], None]:
    """Trainings of a recipe with new seeds, ``runs`` of them if there is time."""

    def measure(session: Session) -> None:
        if compile_mode != "none":
            session.needs_gpu()
        as_written, data = recipe(session, name)
        config = as_written.with_settings({"train.compile": compile_mode})
        way = name if compile_mode == "none" else f"{name}, compiled {compile_mode}"
        cold = _train(config.with_settings({"train.epochs": 1, "train.warmup_epochs": 0}), data, session.device)
        session.results.add(case, way, {FIRST: cold.seconds + cold.warm_up})
        # Behind the first training, which it would warm up, and not compiled in each precision, which takes minutes.
        precision = in_fastest_precision(session, as_written, data).train.precision
        config = config.with_settings({"train.precision": precision})
        for _ in session.repeats(runs):
            run = _train(config, data, session.device)
            tta = config.evaluate.tta
            figures = {SECONDS: run.seconds, EPOCH: run.epoch, ACCURACY: run.accuracy, WARM_UP: run.warm_up}
            if tta != "none":
                figures[f"{ACCURACY}, {tta}"] = _accuracy(run.classifier, data.splits["test"], config, tta)
            session.results.add(case, way, figures)

    return measure


@dataclass(frozen=True)
class Training:
    """Accuracy is in percent; ``seconds`` are without those of the warm-up, ``epoch`` is the median of its epochs'."""

    classifier: Classifier
    seconds: float
    epoch: float
    warm_up: float
    accuracy: float


def _train(config: Config, data: Data, device: torch.device) -> Training:
    config = config.with_settings({"train.seed": int.from_bytes(os.urandom(3))})
    start = time.perf_counter()
    classifier, result = train_classifier(config, data.card, data.splits["train"], data.splits["val"], device)
    seconds = time.perf_counter() - start - result.warm_up_seconds
    accuracy = _accuracy(classifier, data.splits["test"], config, "none")
    epoch = median(metrics.seconds for metrics in result.history)
    return Training(classifier, seconds, epoch, result.warm_up_seconds, accuracy)


@torch.no_grad()
def _accuracy(classifier: Classifier, test: Split, config: Config, tta: str) -> float:
    device = torch.device(config.train.device)
    classifier.to(device)
    right = sum(
        (average_logits(classifier, images, tta).argmax(1) == labels).sum().item()
        for images, labels in test.in_order(TEST_BATCH, device)
    )
    return 100 * right / len(test)


def airbench(session: Session) -> None:
    """Its script as it is published: it prints a row behind each of its trainings, and is stopped after enough.

    Its own seconds count the training and its test-time augmentation on the test images, but neither validation nor
    bringing the images to the device.
    """
    session.needs_gpu()
    if session.airbench is None:
        raise NotHere(f"{AIRBENCH} was not given (--airbench)")
    command = [sys.executable, "-u", str(session.airbench)]
    rows = 0
    with subprocess.Popen(command, cwd=session.place / "airbench", stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        # It may compile for longer than there is time.
        timer = threading.Timer(session.left, process.kill)
        timer.start()
        try:
            for line in process.stdout:
                if (final := final_row(line)) is None:
                    continue
                accuracy, augmented, seconds = final
                figures = {SECONDS: seconds, ACCURACY: 100 * accuracy, f"{ACCURACY}, flip-translate": 100 * augmented}
                # The first is its warm-up, on labels drawn at random.
                session.results.add("CIFAR-10", AIRBENCH, figures if rows else {FIRST: seconds})
                rows += 1
                if rows > AIRBENCH_RUNS or session.left < seconds:
                    break
        finally:
            timer.cancel()
            process.terminate()
    if rows <= 1:
        raise RuntimeError(f"{AIRBENCH} ended after {rows} trainings")


def final_row(line: str) -> tuple[float, float, float] | None:
    """Accuracy, accuracy with test-time augmentation and seconds, if the line tells of the end of a training."""
    cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
    if len(cells) != 6 or cells[1] != "eval":
        return None
    return float(cells[3]), float(cells[4]), float(cells[5])
