"""What processes do that the tests have started on the cluster."""

from pathlib import Path

import torch
from tests.unit.training.shared_trainings import train

from darkroom.training.process_group import joined
from darkroom.utils.console import messages

CHANGES = {"model__dropout": 0.25, "augment__translate": 2, "train__epochs": 2}


def train_together(folder: Path) -> None:
    """In float64; each process leaves its weights in ``folder``, and the first says that it did."""
    with joined(torch.device("cpu")) as (ranks, _):
        weights, *_ = train(ranks, folder, "simple-cnn", CHANGES, 20)
        torch.save(weights, folder / f"{ranks.rank}.pt")
        if ranks.is_first:
            messages.print(f"trained in {ranks.count} processes")
