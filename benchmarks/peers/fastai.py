"""fastai's way with few photographs: vision_learner and fine_tune, with its usual augmentation.

A fifth of the images is held out, as its tutorials do. Nothing is chosen by it.
"""

import time
from argparse import Namespace
from pathlib import Path

import timm
from benchmarks.harness import Figures
from benchmarks.photographs import ACCURACY, MEAN, MODEL, SIDE, STD, accuracy, classes, files
from fastai.vision.all import ImageDataLoaders, Normalize, Resize, aug_transforms, vision_learner
from torch import nn


def train(options: Namespace) -> Figures:
    start = time.perf_counter()
    data = ImageDataLoaders.from_folder(
        options.images / "train", valid_pct=0.2, seed=options.round, bs=32, num_workers=0, item_tfms=Resize(SIDE),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(MEAN, STD)],
    )  # fmt: skip
    learner = vision_learner(data, MODEL, pretrained=False, path=Path.cwd())
    _load(learner.model, options.weights)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(options.epochs)
        seconds = time.perf_counter() - start
        paths, labels = files(options.images / "test")
        predicted, _ = learner.get_preds(dl=data.test_dl(paths))
    assert list(data.vocab) == classes(options.images)
    return {ACCURACY: accuracy(predicted.argmax(1).numpy(), labels), "s": seconds}


def _load(model: nn.Module, weights: Path) -> None:
    """Give the body of fastai's model, which is timm's without its head, the weights of the file."""
    whole = timm.create_model(MODEL, pretrained=True, pretrained_cfg_overlay={"file": str(weights)})
    body = model[0].model
    body.load_state_dict({key: value for key, value in whole.state_dict().items() if key in body.state_dict()})
