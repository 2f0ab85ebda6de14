"""Whether a file gives the answers of the model that it was made of, over a whole split."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from darkroom.data.batches import Split
from darkroom.formats.parity import BATCH_SIZES, Answering, ask, differing


@dataclass(frozen=True)
class Agreement:
    """A file against its model, for all images of a split in batches of ``batch_size``.

    ``largest_logit_difference`` is absolute; ``differing_answers`` counts images for which the most probable class is
    another one, or none, which ``unanswered`` counts; ``accuracy`` is the file's own, 0 to 1.
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
            int(differing(logits, reference.argmax(1)).sum()),
            int(logits.isnan().any(1).sum()),
            accuracy(logits, labels),
        )


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of rows of ``logits`` [N, classes] whose largest is that of ``labels`` int64 [N]."""
    return float((logits.argmax(1) == labels).double().mean())


def compare(
    model: Answering, reference: Tensor, split: Split, begin: Callable[[int], Callable[[int], object]]
) -> list[Agreement]:
    """``model`` against the logits ``reference`` [N, classes] for ``split``, in batches of each size.

    ``begin`` is called with each size, and what it returns after each batch with its number of images.
    """
    return [
        Agreement.of(ask(model, split, size, reference.shape[1], begin(size)), reference, split.labels, size)
        for size in BATCH_SIZES
    ]
