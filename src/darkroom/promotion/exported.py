"""Whether the model as it is registered gives the answers that were recorded when it was evaluated."""

from pathlib import Path

import torch

from darkroom.data.batches import CPU, Split
from darkroom.promotion.evidence import Evidence

# An export may have fixed the size of a batch, or compute otherwise for one image, a few, and a power of two.
BATCH_SIZES = (7, 64)
# Asked one by one; all of them would take many times as long.
SINGLE_IMAGES = 500


@torch.no_grad()
def differing_answers(evidence: Evidence, cache: Path) -> int:
    """How many test images the registered model answers otherwise than recorded, or not, in a batch of some size.

    Raises TrackingError if ``cache`` does not hold the images that were answered, CacheError if it is damaged.
    """
    test = evidence.test_split(cache)
    model = evidence.load()
    recorded = torch.from_numpy(evidence.answers.predicted)
    differs = torch.zeros(len(test), dtype=torch.bool)
    first = Split(test.images[:SINGLE_IMAGES], test.labels[:SINGLE_IMAGES])
    for split, batch_size in ((first, 1), *((test, size) for size in BATCH_SIZES)):
        rows = torch.arange(len(split)).split(batch_size)
        for batch, (images, _) in zip(rows, split.in_order(batch_size, CPU), strict=True):
            try:
                differs[batch] |= model(images).argmax(1) != recorded[batch]
            except (AssertionError, RuntimeError):  # how an exported graph refuses a shape that it was not made for
                differs[batch] = True
    return int(differs.sum())
