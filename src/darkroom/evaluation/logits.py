"""Compute the logits of a model for a split."""

from collections.abc import Callable

import torch
from torch import Tensor

from darkroom.data.batches import CPU, Split

# Maps uint8 images [N, C, H, W] to logits [N, classes].
LogitsFunction = Callable[[Tensor], Tensor]


def _ignore(images: int) -> None:
    pass


@torch.no_grad()
def predict_logits(
    model: LogitsFunction, split: Split, batch_size: int, on_batch: Callable[[int], object] = _ignore
) -> Tensor:
    """The logits float32 [N, classes] of a split, computed on the CPU in fp32: the same on every machine.

    ``on_batch`` is called after each batch with its number of images.
    """
    logits = []
    for images, _ in split.in_order(batch_size, CPU):
        logits.append(model(images))
        on_batch(len(images))
    return torch.cat(logits)
