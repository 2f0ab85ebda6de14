"""Images a second of the training loop beside a bare one."""

import time
from collections.abc import Callable

import torch
from benchmarks import ways
from benchmarks.gpu.measurements.data import Data, data_of
from benchmarks.gpu.measurements.session import Session
from benchmarks.gpu.measurements.training import begin, first_images
from benchmarks.machine import ROOT
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.config import load
from darkroom.data.batches import place
from darkroom.training.device import prepare

SPEED, PEAK = "images/s", "MiB, peak"
BARE = "bare loop, compiled"
BATCHES = (64, 512)
ROUNDS = 3


def fit_beside_bare_loop(session: Session) -> None:
    """The CNN on Fashion-MNIST in bf16, one epoch with its validation; the epoch before it warms up."""
    data = data_of(session, "fashion-mnist")
    for batch in BATCHES:
        for way, prepared in ((BARE, _bare), ("fit", _fit)):
            if session.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            epoch, images = prepared(session, data, batch)
            epoch()
            for _ in session.repeats(ROUNDS):
                start = time.perf_counter()
                epoch()
                session.results.add(case(batch), way, {SPEED: images / (time.perf_counter() - start)})
            if session.device.type == "cuda":
                session.results.add(case(batch), way, {PEAK: torch.cuda.max_memory_allocated() / (1 << 20)})


def case(batch: int) -> str:
    return f"Epoch of the CNN, batch {batch}"


def _bare(session: Session, data: Data, batch: int) -> tuple[Callable[[], None], int]:
    """What a person writes who knows how: everything on the device, nothing read in between."""
    device = session.device
    prepare(device, deterministic=False)
    torch.manual_seed(0)
    net: nn.Module = ways.network("simple-cnn").to(device, memory_format=torch.channels_last)
    compiled = torch.compile(net, mode="max-autotune") if device.type == "cuda" else net
    optimizer = torch.optim.AdamW(net.parameters(), ways.LR, weight_decay=ways.WEIGHT_DECAY, fused=True)
    train, val = place(device, *(first_images(session, data.splits[split]) for split in ("train", "val")))

    def logits(images: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            found: Tensor = compiled((images.float() / 255 - ways.MEAN) / ways.STD)
        return found.float()

    def epoch() -> None:
        net.train()
        rows = torch.randperm(len(train), device=device)
        for part in rows.split(batch)[: max(1, len(train) // batch)]:
            loss = F.cross_entropy(logits(train.images[part]), train.labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        right = torch.zeros((), dtype=torch.int64, device=device)
        with torch.no_grad():
            for images, labels in val.in_order(1000, device):
                right += (logits(images).argmax(1) == labels).sum()
        right.item()

    return epoch, len(train)


def _fit(session: Session, data: Data, batch: int) -> tuple[Callable[[], None], int]:
    changes = {"train.batch_size": batch, "train.precision": "bf16", "model.name": "simple-cnn"}
    compiled = {"train.compile": "max-autotune"} if session.device.type == "cuda" else {}
    loop = begin(session, load(ROOT / "params.yaml").with_settings(changes | compiled), data)

    def epoch() -> None:
        loop.run_epoch()

    return epoch, len(loop.batches.split)
