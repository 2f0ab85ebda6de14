"""Ways to train one epoch: the tutorial way, bare loops and `darkroom train`. Peers have files of their own.

Each takes the model's name, images uint8 [N, 1, 28, 28] of which the first 2,000 are for validation, labels and the
batch size, and returns the seconds from the first batch to the end of validation. All use AdamW (lr 0.001, weight
decay 0.01), one epoch, batches of 1,000 in validation where the way lets one choose.
"""

import contextlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from benchmarks import project
from benchmarks.harness import NotHere
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

VALIDATION = 2000
MEAN = 0.2860
STD = 0.3530
LR = 1e-3
WEIGHT_DECAY = 0.01

Images, Labels = NDArray[np.uint8], NDArray[np.int64]


def network(model: str) -> "nn.Sequential":
    """The networks of darkroom, typed out once more so that the other ways import nothing of it."""
    from torch import nn

    if model == "mlp":
        return nn.Sequential(
            nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
        )
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.25), nn.Linear(3136, 128), nn.ReLU(), nn.Dropout(0.25), nn.Linear(128, 10),
    )  # fmt: skip


def tutorial(model: str, images: Images, labels: Labels, batch: int) -> dict[str, float]:
    """A PIL image a call, torchvision's transforms, a DataLoader with its defaults, the loss read in each step."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    class Pictures(Dataset[Any]):
        def __init__(self, rows: range) -> None:
            self.rows = rows
            self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            row = self.rows[index]
            return self.transform(Image.fromarray(images[row, 0])), int(labels[row])

    torch.manual_seed(0)
    net, loss_function = network(model), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(net.parameters(), LR, weight_decay=WEIGHT_DECAY)
    train = DataLoader(Pictures(range(VALIDATION, len(images))), batch, shuffle=True)
    validation = DataLoader(Pictures(range(VALIDATION)), 1000)
    start = time.perf_counter()
    net.train()
    total = 0.0
    for inputs, targets in train:
        optimizer.zero_grad()
        loss = loss_function(net(inputs), targets)
        loss.backward()
        optimizer.step()
        total += loss.item()
    net.eval()
    with torch.no_grad():
        sum((net(inputs).argmax(1) == targets).sum().item() for inputs, targets in validation)
    return {"s": time.perf_counter() - start}


def bare(model: str, images: Images, labels: Labels, batch: int) -> dict[str, float]:
    """Indexed tensors and nothing else."""
    return _bare(model, images, labels, batch, tuned=False)


def tuned(model: str, images: Images, labels: Labels, batch: int) -> dict[str, float]:
    """The bare loop with what makes it faster on a CPU: channels_last and the fused optimizer."""
    return _bare(model, images, labels, batch, tuned=True)


def _bare(model: str, images: Images, labels: Labels, batch: int, *, tuned: bool) -> dict[str, float]:
    import torch

    torch.manual_seed(0)
    net = network(model)
    if tuned:
        net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), LR, weight_decay=WEIGHT_DECAY, fused=tuned)
    validation = torch.from_numpy(images[:VALIDATION])
    inputs, targets = torch.from_numpy(images[VALIDATION:]), torch.from_numpy(labels[VALIDATION:])
    start = time.perf_counter()
    net.train()
    for rows in torch.randperm(len(inputs)).split(batch):
        logits = net((inputs[rows].float() / 255 - MEAN) / STD)
        loss = torch.nn.functional.cross_entropy(logits, targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        for part in validation.split(1000):
            net((part.float() / 255 - MEAN) / STD).argmax(1)
    return {"s": time.perf_counter() - start}


def fit(model: str, images: Images, labels: Labels, batch: int, precision: str = "fp32") -> dict[str, float]:
    """`darkroom train` on a project with a prepared cache: checkpoint, MLflow run and progress are in the time.

    Beside it the sum of the epochs' own seconds, and those of the whole command, which also loads, draws the
    curves and logs the model. The MLflow store is the one that the warm-up has made, as most trainings find one.
    """
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{Path.cwd() / 'mlflow.db'}"}
    place = tempfile.TemporaryDirectory(dir=".")
    with place as directory, contextlib.chdir(directory), patch.dict(os.environ, store):
        project.write_params(
            {
                "dataset.name": "fashion-mnist",
                "model.name": model,
                "train.epochs": 1,
                "train.batch_size": batch,
                "train.lr": LR,
                "train.weight_decay": WEIGHT_DECAY,
                "train.device": "cpu",
                "train.precision": precision,
                "search.trials": 0,
            }
        )
        project.prepare(images, labels, VALIDATION)
        from darkroom.training import fit

        with project.timed(fit, "fit") as seconds:
            start = time.perf_counter()
            project.darkroom("train")
            command = time.perf_counter() - start
        metrics = json.loads(Path("reports/train/metrics.json").read_text(encoding="utf-8"))
    return {"s": sum(seconds), "s, epochs alone": metrics["seconds"], "s, whole command": command}


def fit_as_chosen(model: str, images: Images, labels: Labels, batch: int) -> dict[str, float]:
    """`darkroom train` in the precision that it chooses for this machine."""
    import torch

    from darkroom.config.settings import Train
    from darkroom.training.device import choose_precision

    if choose_precision(Train(), torch.device("cpu")) == "fp32":
        raise NotHere("train.precision auto chooses fp32 on this machine, which is measured as fit")
    return fit(model, images, labels, batch, "auto")


def fit_deterministic(model: str, images: Images, labels: Labels, batch: int) -> dict[str, float]:
    import torch

    torch.use_deterministic_algorithms(True)
    return fit(model, images, labels, batch)
