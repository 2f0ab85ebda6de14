"""Ultralytics' classification trainer with the same layers, from image files, without augmentation.

It takes sizes in multiples of 32 and three channels, so that the network sees 3 x 32 x 32 where the others see
1 x 28 x 28. By default it keeps a moving average of the weights, saves checkpoints and logs to a CSV file. Timed from
on_train_start to on_fit_epoch_end, before it validates its best checkpoint once more.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_CONFIG_DIR"] = "."  # in the job's own directory: a person's settings must not count

import torch
from benchmarks.ways import LR, VALIDATION, WEIGHT_DECAY, Images, Labels
from PIL import Image
from torch import nn
from torch.nn import functional as F
from ultralytics import settings
from ultralytics.models.yolo.classify import ClassificationTrainer


class Trainable(nn.Module):
    """What the trainer asks of a model, for one that has ``logits``."""

    criterion = None

    def forward(self, batch: Any, augment: bool = False) -> Any:
        if isinstance(batch, dict):
            return self.loss(batch, self.logits(batch["img"]))
        return self.logits(batch)

    def loss(
        self, batch: dict[str, torch.Tensor], logits: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss = F.cross_entropy(logits, batch["cls"])
        return loss, {"loss": loss.detach()}


class Network(Trainable):
    """The small CNN."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.25), nn.Linear(4096, 128), nn.ReLU(), nn.Dropout(0.25), nn.Linear(128, 10),
        )  # fmt: skip


class Trainer(ClassificationTrainer):
    def setup_model(self) -> None:
        self.model = Network()

    def final_eval(self) -> None:
        pass


def train(model: str, images: Images, labels: Labels, batch: int) -> dict[str, float]:
    assert model == "simple-cnn"
    settings.update({"sync": False, "mlflow": False, "dvc": False, "tensorboard": False})
    data = Path(tempfile.mkdtemp(dir=".")).resolve()
    _write(data / "val", images[:VALIDATION], labels[:VALIDATION])
    _write(data / "train", images[VALIDATION:], labels[VALIDATION:])
    trainer = Trainer(
        overrides={
            "model": "yolo26n-cls.yaml", "data": str(data), "imgsz": 32, "batch": batch, "epochs": 1, "device": "cpu",
            "project": str(data / "runs"), "optimizer": "AdamW", "lr0": LR, "weight_decay": WEIGHT_DECAY,
            "nbs": batch, "warmup_epochs": 0, "amp": False, "plots": False, "auto_augment": None, "erasing": 0.0,
            "scale": 0.0, "fliplr": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0,
        }
    )  # fmt: skip
    times = {}
    trainer.add_callback("on_train_start", lambda _: times.update(start=time.perf_counter()))
    trainer.add_callback("on_fit_epoch_end", lambda _: times.update(end=time.perf_counter()))
    trainer.train()
    return {"s": times["end"] - times["start"]}


def _write(directory: Path, images: Images, labels: Labels) -> None:
    for label in range(10):
        (directory / str(label)).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(images[:, 0], labels, strict=True)):
        Image.fromarray(image).save(directory / str(label) / f"{number}.png")
