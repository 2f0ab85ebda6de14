"""A project with a folder of images, a model of them, and an inbox."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image
from tests.conftest import QUICK
from tests.defaults import write_params
from tests.stages import run_stages

from darkroom.data.digests import content_digest
from darkroom.inbox.store import Record, keep

CLASSES = ("cat", "dog", "fox")
SETTINGS = {**QUICK, "dataset__name": "folder", "serve__inbox": "data/inbox"}
SIDE = 20
ROOM = {"max_images": 1000, "max_bytes": 10**7}


def picture(seed: int) -> np.ndarray:
    """A picture uint8 [1, SIDE, SIDE] that resembles no other one."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))[None]


def put(
    root: Path, pixels: np.ndarray, *, label: str | None = None, received: str = "2026-01-02T03:04:05+00:00"
) -> str:
    """Keep a picture as a server does; gives its digest."""
    digest = content_digest(np.ascontiguousarray(pixels).data).hex()
    reason = "named" if label else "undecided"
    keep(root / "data/inbox", pixels, Record(digest, "m", "3", "cat", 0.4, reason, received, label), **ROOM)
    return digest


def fill(root: Path) -> None:
    """Make the project, without anything in its inbox. Its model was not trained, which no run is needed for."""
    import torch

    from darkroom.config import load
    from darkroom.data.cache import DatasetCard
    from darkroom.models.card import ModelCard, save_card
    from darkroom.models.classifier import build_classifier
    from darkroom.models.files import save_weights
    from darkroom.workspace import Workspace

    write_params(root, **SETTINGS)
    for number in range(90):
        path = root / "data/folder" / CLASSES[number % 3] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number)[0]).save(path)
    run_stages(root, "download", "preprocess")
    config, workspace = load(root / "params.yaml"), Workspace(root)
    card = DatasetCard.read(workspace.processed("folder"))
    torch.manual_seed(0)
    digest = save_weights(build_classifier(config.model, card), workspace.weights)
    settings = config.model_dump(mode="json")
    save_card(ModelCard(asdict(card), settings, {}, {}, "0" * 32, digest), workspace.model_card)
