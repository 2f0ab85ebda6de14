"""The models of an audit on the device: they learn, and answer about images that stay where they are."""

from pathlib import Path

import numpy as np
import pytest
import torch

from darkroom.audit.images import fold_images
from darkroom.audit.out_of_fold import OutOfFold, ask_each_fold
from darkroom.config import Config
from darkroom.config.settings import Audit, Model, Train
from darkroom.data.cache import DatasetCard

COUNT, CLASSES = 96, 3
CARD = DatasetCard("made", ("a", "b", "c"), (1, 8, 8), (0.5,), (0.3,), {"train": COUNT, "val": 0, "test": 0}, {}, "f")


@pytest.mark.parametrize("model", [Model(name="mlp", hidden=(16,)), Model(filters=(8,), hidden=(16,))])
def test_models_of_folds_know_classes_that_show_in_the_brightness(
    device: torch.device, tmp_path: Path, model: Model
) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(COUNT) % CLASSES
    images = (generator.integers(0, 60, (COUNT, 1, 8, 8)) + 80 * labels[:, None, None, None]).astype(np.uint8)
    folds = generator.permutation(COUNT) % 3
    folded = fold_images(iter([torch.from_numpy(images)]), labels, folds, tmp_path / "images")
    train = Train(epochs=20, batch_size=16, lr=0.02, precision="fp32", device=device.type)
    config = Config(model=model, train=train, audit=Audit(folds=3))
    answers = ask_each_fold(config, CARD, folded, folded.held_out, device, tmp_path, "key")
    found = OutOfFold.gather(answers, folded)
    assert (found.logits.argmax(axis=1) == labels).mean() > 0.9
    assert np.isfinite(found.features).all()
