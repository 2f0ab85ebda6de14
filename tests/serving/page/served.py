"""A server with the page, in a thread, and models for it that need no registry."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any

import numpy as np
import torch
import uvicorn
from sklearn.datasets import load_digits
from tests.ports import free_port
from tests.serving.page.strokes import png

from darkroom.config import parse
from darkroom.config.settings import Serve
from darkroom.data.batches import CPU, Split
from darkroom.data.cache import DatasetCard
from darkroom.data.glyph_layout import common_ground, measure_glyphs
from darkroom.evaluation.reference import Reference, fit_reference
from darkroom.serving.app import make_app
from darkroom.serving.loaded_model import GalleryImage, LoadedModel
from darkroom.serving.preprocessing import Transform
from darkroom.serving.runtime import Runtime
from darkroom.serving.service import Service
from darkroom.training.fit import train_classifier

ABOUT = {
    "architecture": "simple-cnn", "dataset": "digits", "parameters": 1234, "run_id": "0" * 32,
    "trained_at": "2026-01-02T03:04:05+00:00",
    "metrics": {
        "accuracy": 0.9722, "accuracy_low": 0.9504, "accuracy_high": 0.9865, "f1_macro": 0.9721,
        "log_loss": 0.2, "log_loss_low": 0.15, "log_loss_high": 0.25,
        "calibrated_log_loss": 0.1, "calibrated_log_loss_low": 0.08, "calibrated_log_loss_high": 0.12,
    },
}  # fmt: skip


def train_on_digits() -> LoadedModel:
    """A model of scikit-learn's digits, 8x8 pixels."""
    published = load_digits()
    return train_on((published.images * (255 / 16)).round().astype(np.uint8), published.target, epochs=12)


def train_on(published: np.ndarray, targets: np.ndarray, epochs: int) -> LoadedModel:
    """A model of digits uint8 [N, H, W], with all that a version has which Darkroom registered."""
    images, labels = torch.from_numpy(published)[:, None], torch.from_numpy(targets.astype(np.int64))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test, val = (Split(images[rows], labels[rows]) for rows in order.tensor_split([-600, -200]))
    pixels = train.images / 255
    classes, shape = tuple(map(str, range(10))), (1, *published.shape[1:])
    card = DatasetCard("digits", classes, shape, (pixels.mean().item(),), (pixels.std().item(),), {}, {}, "")
    config = parse(
        {
            "model": {"name": "simple-cnn", "filters": [16, 32], "hidden": 64},
            "train": {"epochs": epochs, "lr": 5e-3, "schedule": "one-cycle", "device": "cpu", "precision": "fp32"},
        },
        where="",
    )
    classifier = train_classifier(config, card, train, val, CPU)[0].eval()

    @torch.no_grad()
    def infer(batch: np.ndarray) -> np.ndarray:
        return classifier(torch.from_numpy(batch)).numpy()

    predicted = infer(test.images.numpy()).argmax(1)
    counts = np.zeros((10, 10), np.int64)
    np.add.at(counts, (test.labels.numpy(), predicted), 1)
    shown = range(20)
    return made_up(
        infer,
        classes=classes,
        shape=shape,
        mean=card.mean,
        reference=fit_reference(
            infer(val.images.numpy()),
            val.labels.numpy(),
            measure_glyphs(train.images.numpy()),
            common_ground(split.images.numpy() for split in (train, val, test)),
        ),
        gallery=[
            GalleryImage(png(test.images[row, 0].numpy()), str(int(test.labels[row])), str(predicted[row]))
            for row in shown
        ],
        counts=counts,
    )


def made_up(
    infer: Callable[[np.ndarray], np.ndarray],
    *,
    classes: Sequence[str],
    shape: tuple[int, int, int] = (3, 6, 6),
    mean: tuple[float, ...] | None = None,
    reference: Reference | None = None,
    gallery: Sequence[GalleryImage] = (),
    counts: np.ndarray | None = None,
    version: str = "1",
    report: bytes | None = None,
) -> LoadedModel:
    """Version 1 of a model whose logits [N, classes] are those of ``infer``."""
    about: dict[str, Any] = ABOUT | {"name": "demo", "version": version, "classes": list(classes), "shape": list(shape)}
    return LoadedModel(
        name="demo",
        version=version,
        classes=tuple(classes),
        shape=shape,
        transform=Transform(shape, mean, *((reference.ink, reference.ground) if reference else ())),
        runtime=Runtime("torch", infer, 0.0),
        reference=reference,
        gallery=gallery,
        confusion={"classes": list(classes), "counts": counts.tolist()} if counts is not None else None,
        about=about,
        report=report,
    )


class Served:
    """A running server: its address, and its service, whose champion a test may change."""

    def __init__(self, service: Service, port: int) -> None:
        self.service = service
        self.port = port
        self.address = f"http://127.0.0.1:{port}"


@contextmanager
def serve(loaded: LoadedModel, port: int | None = None, key: str | None = None, **settings: Any) -> Iterator[Served]:
    """A server whose champion is ``loaded``, on ``port`` or a free one."""
    service = Service(Serve(**settings))
    service.serve(loaded, "2026-02-03T04:05:06+00:00")
    # Not a port of the system's choice: the system could give it to someone else before the next server there starts.
    listening = socket.create_server(("127.0.0.1", port or free_port()))
    server = uvicorn.Server(uvicorn.Config(make_app(service, key), log_config=None, timeout_graceful_shutdown=1))
    thread = Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield Served(service, listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
