"""Ultralytics' classification trainer on few photographs: its defaults, with timm's network and weights.

It holds out a fifth of the images, as the others do; it does not choose by them here, as the last weights are taken.
"""

import shutil
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import timm
import torch
from benchmarks.harness import Figures
from benchmarks.peers.ultralytics import Trainable  # first: it keeps Ultralytics offline
from benchmarks.peers.ultralytics import Trainer as SilentTrainer
from benchmarks.photographs import ACCURACY, MEAN, MODEL, SIDE, STD, accuracy, classes, files, opened
from ultralytics import settings
from ultralytics.data.augment import classify_transforms


class Network(Trainable):
    """timm's network; pixels come as 0 to 1."""

    def __init__(self, weights: Path, count: int) -> None:
        super().__init__()
        self.body = timm.create_model(
            MODEL, num_classes=count, pretrained=True, pretrained_cfg_overlay={"file": str(weights)}
        )
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1))

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        return self.body((images - self.mean) / self.std)


class Trainer(SilentTrainer):
    def setup_model(self) -> None:
        self.model = Network(self.weights, self.count)


def train(options: Namespace) -> Figures:
    settings.update({"sync": False, "mlflow": False, "dvc": False, "tensorboard": False})
    start = time.perf_counter()
    names = classes(options.images)
    data = Path(tempfile.mkdtemp(dir=".")).resolve()
    paths, labels = files(options.images / "train")
    held_out = set(np.random.default_rng(options.round).permutation(len(paths))[: len(paths) // 5].tolist())
    for number, (path, label) in enumerate(zip(paths, labels, strict=True)):
        directory = data / ("val" if number in held_out else "train") / names[label]
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, directory)
    Trainer.weights, Trainer.count = options.weights, len(names)
    trainer = Trainer(
        overrides={
            "model": "yolo26n-cls.yaml", "data": str(data), "imgsz": SIDE, "epochs": options.epochs, "batch": 32,
            "device": "cpu", "workers": 0, "seed": options.round, "amp": False, "plots": False,
            "project": str(data / "runs"),
        }
    )  # fmt: skip
    trainer.train()
    seconds = time.perf_counter() - start
    paths, labels = files(options.images / "test")
    transform, model = classify_transforms(SIDE), trainer.ema.ema.eval()
    with torch.inference_mode():
        predicted = [int(model(transform(each)[None]).argmax()) for each in opened(paths)]
    return {ACCURACY: accuracy(np.array(predicted), labels), "s": seconds}
