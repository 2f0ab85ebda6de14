"""Training speed of `fit`, with its logging on, beside the tutorial way and bare loops.

Usage: python benchmarks/training_speed.py [--images 20000] [--rounds 3] [--json FILE]

Conditions: Fashion-MNIST (download it first: `darkroom download` and `darkroom preprocess` with
dataset.name fashion-mnist), simple-cnn 32/64 with a dense layer of 128, batch 64, AdamW, one epoch of
training and one pass over 2,000 validation images. Each figure comes from a process of its own; the ways
take turns, so that a change of the machine's load meets all of them. Figures are training images a
second over the whole epoch, validation included; the ratios are what to look at.

- tutorial: PIL images through torchvision transforms and a DataLoader, as tutorials do
- bare: indexed tensors, the same network, nothing else
- bare channels_last: the same with channels_last and the fused optimizer
- fit: this project's `fit`, with a checkpoint, an MLflow run and progress for each epoch (its network has
  ReLU behind the pooling, which gives the same numbers)
"""

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCH = 64
VALIDATION = 2000
MEAN, STD = 0.2860, 0.3530
WAYS = ("tutorial", "bare", "bare channels_last", "fit")
ROOT = Path(__file__).parents[1]


def network():
    """The network that every way trains, typed out once more so that the bare ways import nothing of ours."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.25), nn.Linear(3136, 128), nn.ReLU(), nn.Dropout(0.25), nn.Linear(128, 10),
    )  # fmt: skip


def tutorial(images, labels):
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    class Pictures(Dataset):
        """As torchvision's MNIST classes do it: a PIL image a call, then the transform."""

        def __init__(self, rows):
            self.rows = rows
            self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, index):
            row = self.rows[index]
            return self.transform(Image.fromarray(images[row, 0].numpy())), int(labels[row])

    model, loss_function = network(), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    train = DataLoader(Pictures(range(VALIDATION, len(images))), BATCH, shuffle=True)
    validation = DataLoader(Pictures(range(VALIDATION)), 1000)
    start = time.perf_counter()
    model.train()
    total = 0.0
    for inputs, targets in train:
        optimizer.zero_grad()
        loss = loss_function(model(inputs), targets)
        loss.backward()
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        sum((model(inputs).argmax(1) == targets).sum().item() for inputs, targets in validation)
    return time.perf_counter() - start


def bare(images, labels, *, channels_last=False):
    import torch

    model = network()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=channels_last)
    train_images, train_labels = images[VALIDATION:], labels[VALIDATION:]
    start = time.perf_counter()
    model.train()
    for rows in torch.randperm(len(train_images)).split(BATCH):
        inputs = (train_images[rows].float() / 255 - MEAN) / STD
        loss = torch.nn.functional.cross_entropy(model(inputs), train_labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for inputs in images[:VALIDATION].split(1000):
            model((inputs.float() / 255 - MEAN) / STD).argmax(1)
    return time.perf_counter() - start


def fit(images, labels):
    import torch

    from darkroom.console import progress
    from darkroom.data.batches import Split
    from darkroom.data.cache import DatasetCard
    from darkroom.models.classifier import build_classifier
    from darkroom.settings import Augment, Model, Tracking, Train
    from darkroom.tracking.runs import epoch_metrics
    from darkroom.tracking.tracker import Tracker
    from darkroom.training import fit as training
    from darkroom.training.checkpoint import Checkpoint

    card = DatasetCard("fashion-mnist", tuple("0123456789"), (1, 28, 28), (MEAN,), (STD,), {}, {}, "")
    torch.manual_seed(0)
    model = build_classifier(Model(), card)
    train = Split(images[VALIDATION:], labels[VALIDATION:])
    val = Split(images[:VALIDATION], labels[:VALIDATION])
    with tempfile.TemporaryDirectory() as place:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place}/mlflow.db"
        checkpoint = Checkpoint(Path(place, "train.pt"), "benchmark")
        tracker = Tracker(Tracking(), Path(place, "spools"))
        with tracker, tracker.start("benchmark", "train") as run, progress() as display:
            task = display.add_task("train", total=1, note="")

            def on_epoch(metrics):
                run.log_metrics(epoch_metrics(vars(metrics)), step=metrics.epoch)
                display.update(task, completed=metrics.epoch)

            start = time.perf_counter()
            training.fit(model, train, val, Train(epochs=1), Augment(), checkpoint=checkpoint, on_epoch=on_epoch)
            return time.perf_counter() - start


def measure(way, count):
    """Seconds of one epoch of ``way``, after a short one that warms everything up."""
    import numpy as np
    import torch

    raw = ROOT / "data" / "raw" / "fashion-mnist"
    with gzip.open(raw / "train-images-idx3-ubyte.gz") as opened:
        images = np.frombuffer(opened.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(raw / "train-labels-idx1-ubyte.gz") as opened:
        labels = np.frombuffer(opened.read(), np.uint8, offset=8).astype(np.int64)
    images = torch.from_numpy(images[: count + VALIDATION].copy())
    labels = torch.from_numpy(labels[: count + VALIDATION])
    run = {
        "tutorial": tutorial,
        "bare": bare,
        "bare channels_last": lambda *data: bare(*data, channels_last=True),
        "fit": fit,
    }[way]
    torch.manual_seed(0)
    run(images[: VALIDATION + 20 * BATCH], labels[: VALIDATION + 20 * BATCH])
    return run(images, labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000, help="training images of the epoch")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.images)))
        return
    if not (ROOT / "data" / "raw" / "fashion-mnist").is_dir():
        sys.exit("Fashion-MNIST is not here: set dataset.name to fashion-mnist and run `dvc repro download`")
    speeds = {way: [] for way in WAYS}
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
    for number in range(options.rounds):
        for way in WAYS if number % 2 == 0 else WAYS[::-1]:
            command = [sys.executable, __file__, "--way", way, "--images", str(options.images)]
            ended = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            speeds[way].append(options.images / float(ended.stdout.splitlines()[-1]))

    import torch

    conditions = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "images": options.images,
        "rounds": options.rounds,
    }
    print(conditions)
    medians = {way: statistics.median(values) for way, values in speeds.items()}
    print(f"{'way':<20}{'images/s (median, range)':<32}{'x tutorial':>11}{'x bare channels_last':>22}")
    for way, values in speeds.items():
        spread = f"{medians[way]:,.0f} ({min(values):,.0f} to {max(values):,.0f})"
        against = [medians[way] / medians[other] for other in ("tutorial", "bare channels_last")]
        print(f"{way:<20}{spread:<32}{against[0]:>11.2f}{against[1]:>22.2f}")
    if options.json:
        options.json.write_text(json.dumps({"conditions": conditions, "images_per_second": speeds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
