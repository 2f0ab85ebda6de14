"""How many workers a search has, and how many trials are one program."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from darkroom.config import Config, parse
from darkroom.data.cache import DatasetCard
from darkroom.search import plan as module
from darkroom.search.plan import Plan, operations, plan

CARD = DatasetCard("small", ("a", "b"), (1, 28, 28), (0.2,), (0.3,), {"train": 54_000}, {}, fingerprint="0" * 64)
SMALL = replace(CARD, sizes={"train": 100})
CPU = torch.device("cpu")
GPU = torch.device("cuda")
SPACE = {"train": {"lr": {"low": 0.001, "high": 0.1}}}


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cores, two GPUs."""
    monkeypatch.setattr(module, "_cores", lambda: 4)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def config(
    model: str = "mlp", *, trials: int = 100, compiled: str = "none", learns: str | None = None, **search: Any
) -> Config:
    tree = {
        "model": {"name": model, "train": learns},
        "train": {"compile": compiled, "epochs": 10},
        "search": {"trials": trials, "space": SPACE, **search},
    }
    return parse(tree, where="")


@pytest.mark.parametrize(
    ("settings", "card", "device", "expected"),
    [
        (config("mlp"), CARD, CPU, Plan(4, 8)),
        (config("simple-cnn"), CARD, CPU, Plan(4, 1)),
        (config("mlp"), CARD, GPU, Plan(2, 16)),
        (config("simple-cnn"), CARD, GPU, Plan(2, 16)),
        (config("mlp"), CARD, torch.device("mps"), Plan(1, 1)),
        (config("mlp", trials=30), SMALL, CPU, Plan(1, 1)),
        (config("mlp", trials=30), SMALL, GPU, Plan(1, 1)),
        (config("mlp", trials=50), SMALL, CPU, Plan(1, 3)),
        (config("mlp", trials=200), SMALL, CPU, Plan(1, 8)),
        (config("simple-cnn", trials=50), SMALL, CPU, Plan(1, 1)),
        (config("mlp", trials=4000), SMALL, CPU, Plan(4, 8)),
        (config("mlp", trials=24), CARD, CPU, Plan(4, 3)),
        (config("mlp", trials=5), CARD, CPU, Plan(2, 1)),
        (config("mlp", trials=1), CARD, CPU, Plan(1, 1)),
        (config("mlp", workers=3), CARD, CPU, Plan(3, 8)),
        (config("mlp", workers=3), SMALL, CPU, Plan(3, 2)),
        (config("mlp", fuse=5), SMALL, CPU, Plan(1, 5)),
        (config("mlp", fuse=5), CARD, CPU, Plan(4, 5)),
        (config("mlp", fuse="off"), CARD, CPU, Plan(4, 1)),
        (config("pretrained", learns="all"), CARD, CPU, Plan(4, 1)),
        (config("pretrained", fuse="auto", trials=1000), CARD, CPU, Plan(4, 16)),
        (config("mlp", executor="ray"), CARD, CPU, Plan(50, 1)),
        (config("mlp", executor="ray", workers=4, worker_gpus=1), CARD, CPU, Plan(4, 12)),
    ],
    ids=[
        "dense layers gain by both",
        "convolutions do not gain by fusing on a CPU",
        "a GPU each, with many trials",
        "convolutions gain on a GPU",
        "one worker on an Apple GPU",
        "a short search goes one after another",
        "a short search on a GPU too",
        "where each place sees sixteen trials, they are fused",
        "but no more than gain by it",
        "nor what does not",
        "thousands of small trials are a long search",
        "each place sees two trials",
        "so does each worker",
        "a single trial",
        "as many workers as asked for",
        "also where the search is short",
        "fused as asked for",
        "fused as asked for in each worker",
        "not fused",
        "a pretrained model is not fused",
        "its head is",
        "as many workers as a cluster has room for",
        "GPUs of a cluster",
    ],
)
def test_a_search_is_planned(settings: Config, card: DatasetCard, device: torch.device, expected: Plan) -> None:
    assert plan(settings, card, device) == expected


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (config("pretrained", learns="all"), "the layers of a pretrained model learn from epochs of their own"),
        (config("pretrained", learns="all", fuse=4), "the layers of a pretrained model learn from epochs of their own"),
        (config("mlp", fuse=4, compiled="default"), "train.compile is for a single model"),
    ],
    ids=["pretrained", "pretrained, asked for", "compiled"],
)
def test_trials_that_would_be_fused_and_cannot_say_why(settings: Config, reason: str) -> None:
    assert plan(settings, CARD, GPU) == Plan(2, 1, f"search.fuse: trials are trained one at a time; {reason}")


def test_operations_are_those_of_all_trials() -> None:
    dense = 784 * 256 + 256 * 128 + 128 * 2

    assert operations(config("mlp", trials=7), CARD) == 7 * 10 * 54_000 * 3 * 2 * dense


def test_operations_of_convolutions_count_every_position() -> None:
    layers = 9 * 32 * 28 * 28 + 32 * 9 * 64 * 14 * 14 + 3136 * 128 + 128 * 2

    assert operations(config("simple-cnn", trials=1, epochs=1), CARD) == 54_000 * 3 * 2 * layers


def test_a_model_that_does_not_take_the_images_is_left_to_its_trials() -> None:
    assert plan(config("fast-cnn"), replace(CARD, shape=(1, 8, 8)), CPU) == Plan(1, 1)
