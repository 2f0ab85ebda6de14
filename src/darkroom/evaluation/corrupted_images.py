"""Run a model on corrupted test images."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from darkroom.data.batches import Split
from darkroom.evaluation.corruptions import CORRUPTIONS, STRENGTHS, draw
from darkroom.evaluation.logits import LogitsFunction
from darkroom.evaluation.robustness import Accuracy, CorruptionAccuracy, Robustness


@torch.no_grad()
def measure_robustness(
    model: LogitsFunction,
    split: Split,
    correct: NDArray[np.bool_],
    batch_size: int,
    device: torch.device,
    on_batch: Callable[[int], object],
) -> Robustness:
    """The robustness of ``model``, which is on ``device``, with every corruption in every strength.

    ``correct`` [N] are the images that it classifies correctly as they are. ``on_batch`` is called with the number of
    images of each batch.
    """
    height, width = split.images.shape[-2:]
    parameters = {name: each.parameters(height, width) for name, each in CORRUPTIONS.items()}
    batches = []
    for images, labels in split.in_order(split.at_once(batch_size, device), device):
        draws = draw(images)
        answers = [
            model(each.change(images, parameter, draws)).argmax(1)
            for name, each in CORRUPTIONS.items()
            for parameter in parameters[name]
        ]
        batches.append((torch.stack(answers) == labels).cpu())
        on_batch(len(images))
    right = torch.cat(batches, 1).numpy().reshape(len(CORRUPTIONS), STRENGTHS, -1)
    found = tuple(
        CorruptionAccuracy.of(name, each.unit, parameters[name], own)
        for (name, each), own in zip(CORRUPTIONS.items(), right, strict=True)
    )
    return Robustness(len(correct), Accuracy.of(correct), Accuracy.of(right), found)
