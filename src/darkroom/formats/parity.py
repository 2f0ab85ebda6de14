"""What a model answers in batches of a size, whatever it is computed by, and which answers differ."""

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from darkroom.data.batches import CPU, Split

# Maps uint8 images [N, C, H, W] to logits [N, classes].
Answering = Callable[[Tensor], Tensor]
# A form of file may have fixed the size of a batch, or compute otherwise for one image, a few, and a power of two.
BATCH_SIZES = (1, 7, 64)


def _ignore(images: int) -> None:
    pass


@torch.no_grad()
def ask(
    model: Answering, split: Split, batch_size: int, classes: int, told: Callable[[int], object] = _ignore
) -> Tensor:
    """The logits float32 [N, classes] of a split, on the CPU; not a number where the model refuses a batch.

    ``told`` is called after each batch with its number of images.
    """
    logits = torch.full((len(split), classes), torch.nan)
    rows = torch.arange(len(split)).split(batch_size)
    for batch, (images, _) in zip(rows, split.in_order(batch_size, CPU), strict=True):
        # Each library has its own way of refusing a shape that a file was not made for.
        with suppress(Exception):
            answer = model(images)
            if answer.shape == (len(batch), classes):  # one row would be taken for the answer to every image
                logits[batch] = answer
        told(len(batch))
    return logits


def differing(logits: Tensor, expected: Tensor) -> Tensor:
    """Which rows of ``logits`` [N, classes] do not answer as ``expected`` int64 [N], bool [N]."""
    # Of a row with one that is not a number, argmax would be that one.
    return (logits.argmax(1) != expected) | logits.isnan().any(1)
