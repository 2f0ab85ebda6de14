"""Parity: whether an exported file gives the same answers as its model, in any runtime."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from darkroom.data.batches import Split
from darkroom.evaluation.logits import LogitsFunction, predict_logits

# A form of file may have fixed the size of a batch, or compute otherwise for one image, a few, and a power of two.
BATCH_SIZES = (1, 7, 64)


def nan_on_failure(model: LogitsFunction, classes: int) -> LogitsFunction:
    """``model``, with NaN as logits for a batch that it refuses, or for which the shape of its logits is wrong."""

    def answer(images: Tensor) -> Tensor:
        # Each library has its own way of refusing a shape that a file was not made for.
        with suppress(Exception):
            logits = model(images)
            if logits.shape == (len(images), classes):
                return logits
        return torch.full((len(images), classes), torch.nan)

    return answer


def differing_predictions(logits: Tensor, expected: Tensor) -> Tensor:
    """The rows of ``logits`` [N, classes] whose prediction is not the ``expected`` class, int64 [N]: bool [N]."""
    # Of a row with one that is not a number, argmax would be that one.
    return (logits.argmax(1) != expected) | logits.isnan().any(1)


@dataclass(frozen=True)
class Agreement:
    """A file compared with its model, for all images of a split in batches of ``batch_size``.

    ``largest_logit_difference`` is absolute; ``differing_answers`` counts images with another most probable class, or
    with none; ``unanswered`` counts the latter; ``accuracy`` is the file's own, 0 to 1.
    """

    batch_size: int
    largest_logit_difference: float
    differing_answers: int
    unanswered: int
    accuracy: float

    @classmethod
    def of(cls, logits: Tensor, reference: Tensor, labels: Tensor, batch_size: int) -> Self:
        return cls(
            batch_size,
            float((logits - reference).abs().nan_to_num(0).max()),
            int(differing_predictions(logits, reference.argmax(1)).sum()),
            int(logits.isnan().any(1).sum()),
            accuracy(logits, labels),
        )


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of rows of ``logits`` [N, classes] whose largest is that of ``labels`` int64 [N]."""
    return float((logits.argmax(1) == labels).double().mean())


def compare(
    model: LogitsFunction, reference: Tensor, split: Split, begin: Callable[[int], Callable[[int], object]]
) -> list[Agreement]:
    """Compare ``model`` with the logits ``reference`` [N, classes] for ``split``, in batches of each size.

    ``begin`` is called with each size, and what it returns after each batch with its number of images.
    """
    answer = nan_on_failure(model, reference.shape[1])
    return [
        Agreement.of(predict_logits(answer, split, size, begin(size)), reference, split.labels, size)
        for size in BATCH_SIZES
    ]
