"""Whether the model as it is registered gives the answers that were recorded when it was evaluated."""

from pathlib import Path

import torch

from darkroom.data.batches import CPU, Split, read_split
from darkroom.data.cache import DatasetCard
from darkroom.errors import CacheError, TrackingError
from darkroom.promotion.evidence import Evidence

# An export may have fixed the size of a batch, or compute otherwise for one image, a few, and a power of two.
BATCH_SIZES = (7, 64)
# Asked one by one; all of them would take many times as long.
SINGLE_IMAGES = 500


@torch.no_grad()
def differing_answers(evidence: Evidence, cache: Path) -> int:
    """How many test images the registered model answers otherwise than recorded, in a batch of any size.

    Raises TrackingError if ``cache`` does not hold the images that were answered, CacheError if it is damaged.
    """
    test = _test_split(evidence, cache)
    model = evidence.load()
    recorded = torch.from_numpy(evidence.answers.predicted)
    differs = torch.zeros(len(test), dtype=torch.bool)
    first = Split(test.images[:SINGLE_IMAGES], test.labels[:SINGLE_IMAGES])
    for split, batch_size in ((first, 1), *((test, size) for size in BATCH_SIZES)):
        found = torch.cat([model(images).argmax(1) for images, _ in split.in_order(batch_size, CPU)])
        differs[: len(split)] |= found != recorded[: len(split)]
    return int(differs.sum())


def _test_split(evidence: Evidence, cache: Path) -> Split:
    try:
        card = DatasetCard.read(cache)
        found = card.fingerprint
    except CacheError:
        found = ""
    if found != evidence.fingerprint:
        holds = f"holds other data ({found[:12]})" if found else "is not there"
        raise TrackingError(
            f"gate.export asks {evidence.contender} for the test images {evidence.fingerprint[:12]}, but {cache} {holds}; "
            "run `dvc repro preprocess`"
        )
    return read_split(cache, card, "test")
