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
    """How many test images the registered model answers otherwise than recorded, or not, in a batch of some size.

    Raises TrackingError if ``cache`` does not hold the images that were answered, CacheError if it is damaged.
    """
    test = _test_split(evidence, cache)
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


def _test_split(evidence: Evidence, cache: Path) -> Split:
    try:
        card = DatasetCard.read(cache)
    except CacheError:
        raise _lacking(evidence, f"{cache} does not hold") from None
    if card.fingerprint != evidence.fingerprint:
        raise _lacking(evidence, f"{cache} holds {card.name} {card.fingerprint[:12]} and not")
    return read_split(cache, card, "test")


def _lacking(evidence: Evidence, what: str) -> TrackingError:
    return TrackingError(
        f"gate.export: {what} the images {evidence.fingerprint[:12]} that {evidence.contender} is to be asked again; "
        "run `dvc repro preprocess`"
    )
