"""Small photographs in a cache, and weights of timm's smallest model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from darkroom.config import Config, parse
from darkroom.data import cache
from darkroom.features.head import Head, open_head
from darkroom.workspace import Workspace

BACKBONE = "timm/test_efficientnet"
TRAIN = 22
VAL = 9
TEST = 5
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(7)
    path: Path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(timm.create_model(BACKBONE.removeprefix("timm/")).state_dict(), path)
    return path


def write_images(root: Path, seed: int = 0) -> None:
    directory = Workspace(root).processed("folder")
    directory.mkdir(parents=True)
    count = TRAIN + VAL + TEST
    labels = np.arange(count) % 3
    images = np.random.default_rng(seed).integers(0, 256, (count, 3, 20, 24), dtype=np.uint8)
    # Each class has a color, so that even random weights know something of it.
    images[np.arange(count), labels] //= 8
    rows = dict(zip(cache.SPLITS, np.split(np.arange(count), [TRAIN, TRAIN + VAL]), strict=True))
    cache.write(directory, images, labels, rows, name="folder", classes=["a", "b", "c"], names=[], settings={})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the images."""
    write_images(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def configured(weights: Path) -> Callable[..., Config]:
    """The settings of a head, changed as given by section__key."""

    def make(**changes: Any) -> Config:
        tree: dict[str, dict[str, Any]] = {
            "dataset": {"name": "folder"},
            # Of the size of the weights, 160 pixels, features would take five times as long.
            "model": {"name": "pretrained", "backbone": BACKBONE, "weights_path": str(weights), "input_size": 32},
            "train": {"epochs": 2, "batch_size": 8, "lr": 0.01, "device": "cpu", "precision": "fp32"},
        }
        for name, value in changes.items():
            section, _, key = name.partition("__")
            tree.setdefault(section, {})[key] = value
        return parse(tree, where="")

    return make


@pytest.fixture
def opened(root: Path, configured: Callable[..., Config]) -> Callable[..., Head]:
    """The head of these settings, with its features."""

    def make(**changes: Any) -> Head:
        workspace, config = Workspace(), configured(**changes)
        head = open_head(config, workspace, cache.DatasetCard.read(workspace.processed("folder")), CPU)
        assert head
        return head

    return make
