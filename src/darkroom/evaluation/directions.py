"""What a classifier's last layer is given of images, as directions: alike images point the same way."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from darkroom.data.batches import CPU, Split
from darkroom.models.network import record_features

# The largest number in half precision.
HALF = 65_504.0


@torch.no_grad()
def directions(classifier: nn.Module, split: Split, rows: Tensor, batch_size: int) -> Iterator[Tensor]:
    """The features of the ``rows`` int64 [n] of a split as vectors of length 1: float32 [batch, D], by batches.

    The ``classifier`` takes what the split holds: images, or features of which it is the head.
    """
    with record_features(classifier) as features:
        for some in rows.split(split.at_once(batch_size, CPU)):
            classifier(split.take(some, CPU)[0])
            yield directions_of(features.pop())


def directions_of(features: Tensor) -> Tensor:
    """Features float16 [n, D], as ``record_features`` collects them, as vectors of length 1: float32 [n, D]."""
    # In half precision those of a diverged network are infinite.
    return normalize(features.float().nan_to_num(posinf=HALF, neginf=-HALF))
