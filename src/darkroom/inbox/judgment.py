"""What the model in the working tree says of the pictures of an inbox, and which of them to ask people about."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from darkroom.data.batches import Split, read_split
from darkroom.data.cache import DatasetCard
from darkroom.data.memmap import allocate
from darkroom.errors import DataError, counted
from darkroom.images.decoder import BrokenImageError, Decoder
from darkroom.inbox.duplicates import find_duplicates
from darkroom.inbox.picking import pick
from darkroom.inbox.store import Kept
from darkroom.models.classifier import Classifier
from darkroom.models.network import record_features
from darkroom.utils.console import reporter, warn
from darkroom.utils.scratch import scratch_directory

# Pictures that the model is given at once.
BATCH = 256


@dataclass(frozen=True)
class Judged:
    """Pictures with what the model in the working tree says of them.

    ``probabilities`` float32 [n, classes], ``features`` float16 [n, D] and ``groups`` int64 [n] as ``find_duplicates``
    gives them. ``said`` bool [n]: somebody has named their class; ``known``: they show an image of the validation or
    test split; ``again``: they show a picture that has joined the dataset, and neither of these.
    """

    kept: Sequence[Kept]
    probabilities: NDArray[np.float32]
    features: NDArray[np.float16]
    groups: NDArray[np.int64]
    said: NDArray[np.bool_]
    known: NDArray[np.bool_]
    again: NDArray[np.bool_]

    @property
    def settled(self) -> NDArray[np.bool_]:
        """Nobody is asked about them: whoever tries the server with test images must not make train images of them."""
        return self.known | self.again

    def alike(self, row: int) -> list[int]:
        """The other pictures that show the same as the one of ``row``, and are not settled."""
        same = np.flatnonzero((self.groups == self.groups[row]) & ~self.settled)
        return [other for other in same.tolist() if other != row]


def judge(
    kept: Sequence[Kept], accepted: Sequence[Path], classifier: Classifier, card: DatasetCard, cache: Path
) -> Judged:
    """Judge the pictures of an inbox that can be decoded, by a model of the dataset whose cache has this ``card``.

    ``accepted`` are the pictures that have joined the dataset. Raises DataError if none of ``kept`` can be decoded.
    """
    with scratch_directory() as scratch:
        pixels, rows = _decode([each.file for each in kept], card, scratch / "inbox")
        if not rows:
            raise DataError(
                f"{kept[0].file.parent}: none of its {counted(len(kept), 'picture')} can be decoded; remove them"
            )
        joined, _ = _decode(accepted, card, scratch / "accepted")
        probabilities = []
        with torch.no_grad(), record_features(classifier) as features, reporter() as report:
            for start in range(0, len(pixels), BATCH):
                batch = torch.from_numpy(np.array(pixels[start : start + BATCH]))
                probabilities.append(classifier(batch).softmax(1).float().numpy())
                report("run the model", start, len(pixels))
            splits = [read_split(cache, card, name) for name in ("val", "test")]
            splits.append(Split(torch.from_numpy(joined), torch.zeros(len(joined), dtype=torch.int64)))
            groups, (val, test, again) = find_duplicates(pixels, splits, scratch, report)
    readable = [kept[row] for row in rows]
    said = np.array([each.record.label is not None for each in readable])
    return Judged(
        readable,
        np.concatenate(probabilities),
        torch.cat(features).numpy(),
        groups,
        said,
        val | test,
        again & ~said & ~val & ~test,
    )


def choose(judged: Judged, count: int) -> list[int]:
    """The rows of at most ``count`` pictures to ask people about: first those whose class somebody has named."""
    said = judged.said
    # Of a group the one that somebody has named the class of, else the first.
    order = np.lexsort([np.arange(len(said)), ~said])
    first = order[np.unique(judged.groups[order], return_index=True)[1]]
    rows = np.sort(first[~judged.settled[first]])
    chosen: list[int] = []
    for part in (rows[said[rows]], rows[~said[rows]]):
        picked = pick(judged.probabilities[part], judged.features[part], count - len(chosen))
        chosen += part[picked].tolist()
    return chosen


def _decode(files: Sequence[Path], card: DatasetCard, target: Path) -> tuple[NDArray[np.uint8], list[int]]:
    """The pixels of pictures as the model takes them, mapped from ``target``, and which of ``files`` can be read."""
    # They are what a model has seen: in 8 bits, whatever the files of the dataset have.
    decoder = Decoder.parse({}, card.shape)
    pixels = allocate(target, (max(1, len(files)), *card.shape))  # no file of no bytes can be mapped
    readable: list[int] = []
    for row, file in enumerate(files):
        try:
            pixels[len(readable)] = decoder(file.read_bytes())
        except (BrokenImageError, FileNotFoundError) as problem:
            warn(f"{file}: left out ({problem})")
        else:
            readable.append(row)
    return pixels[: len(readable)], readable
