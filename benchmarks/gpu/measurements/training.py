"""Training loops as the product makes them, on the first images of a dataset."""

import os
from unittest.mock import patch

from benchmarks.gpu.measurements.data import SMALL_IMAGES, Data, few
from benchmarks.gpu.measurements.session import Session

from darkroom.config import Config
from darkroom.data.batches import Split, place
from darkroom.training.device import prepare
from darkroom.training.fit import start_classifier
from darkroom.training.loop import TrainingLoop
from darkroom.training.precision import fastest_precision

IMAGES = 20_000
EPOCHS = 1000  # more than are measured: the rate hardly falls


def in_fastest_precision(session: Session, config: Config, data: Data) -> Config:
    """``config`` in the precision in which the product would train it, measured in this session."""
    with patch.dict(os.environ, DARKROOM_CACHE=str(session.place / "cache")):
        return fastest_precision(config, data.card, session.device).put_into(config)


def begin(session: Session, config: Config, data: Data, *, warm: bool = True) -> TrainingLoop:
    """A training on the session's device. Its generator was the last for which torch's was seeded."""
    config = config.with_settings({"train.device": session.device.type, "train.epochs": EPOCHS})
    prepare(session.device, deterministic=config.train.deterministic)
    first = (first_images(session, data.splits[split]) for split in ("train", "val"))
    train, val = place(session.device, *first)
    classifier = start_classifier(config, data.card, train, session.device)
    loop = TrainingLoop(classifier, train, val, config.train, config.augment, session.device)
    if warm:
        loop.warm_up()
    return loop


def first_images(session: Session, split: Split) -> Split:
    """As many images as are trained on, from all over the split, in memory."""
    return few(split, SMALL_IMAGES if session.small else IMAGES)
