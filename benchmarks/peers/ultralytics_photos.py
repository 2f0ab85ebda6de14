"""Ultralytics' classification trainer on few photographs: its defaults, with timm's network and weights.

It holds out a fifth of the images, as the others do; it does not choose by them here, as the last weights are taken.
"""

import os
import shutil
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_CONFIG_DIR"] = "."  # in the job's own directory: a person's settings must not count

import numpy as np
import timm
import torch
from benchmarks.harness import Figures
from benchmarks.photographs import ACCURACY, MEAN, MODEL, SIDE, STD, accuracy, classes, files, opened
from torch import nn
from torch.nn import functional as F
from ultralytics import settings
from ultralytics.data.augment import classify_transforms
from ultralytics.models.yolo.classify import ClassificationTrainer


class Network(nn.Module):
    """timm's network with what the trainer asks of a model; pixels come as 0 to 1."""

    criterion = None

    def __init__(self, weights: Path, count: int) -> None:
        super().__init__()
        self.body = timm.create_model(
            MODEL, num_classes=count, pretrained=True, pretrained_cfg_overlay={"file": str(weights)}
        )
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1))

    def forward(self, batch: Any, augment: bool = False) -> Any:
        if isinstance(batch, dict):
            return self.loss(batch, self.forward(batch["img"]))
        return self.body((batch - self.mean) / self.std)

    def loss(
        self, batch: dict[str, torch.Tensor], logits: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss = F.cross_entropy(logits, batch["cls"])
        return loss, {"loss": loss.detach()}


class Trainer(ClassificationTrainer):
    def setup_model(self) -> None:
        self.model = Network(self.weights, self.count)

    def final_eval(self) -> None:
        pass


def finetune(options: Namespace) -> Figures:
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
