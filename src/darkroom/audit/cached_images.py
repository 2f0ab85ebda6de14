"""The images of a preprocessed dataset, one at a time."""

from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.audit.findings import ImageRef
from darkroom.data.batches import read_split
from darkroom.data.cache import NAMES, SPLITS, DatasetCard
from darkroom.data.difference import Listing


class CachedImages:
    """The images of a preprocessed dataset, mapped from its files. Raises CacheError or DataError if it is damaged."""

    def __init__(self, directory: Path) -> None:
        card = DatasetCard.read(directory)
        self._listing = Listing.read(directory / NAMES)
        self._splits = {split: read_split(directory, card, split) for split in SPLITS}
        sizes = [card.sizes[split] for split in SPLITS]
        self._starts = dict(zip(SPLITS, accumulate([0, *sizes[:-1]]), strict=True))

    def pixels(self, image: ImageRef) -> NDArray[np.uint8]:
        split = self._splits[image.split]
        pixels: NDArray[np.uint8] = split.images[image.row].clone().numpy()
        if split.mapping:
            split.mapping.touched(1)
        return pixels

    def label(self, image: ImageRef) -> str:
        label: str = self._listing.classes[self._listing.labels[self._position(image)]]
        return label

    def file(self, image: ImageRef) -> str:
        return self._listing.names[self._position(image)]

    def _position(self, image: ImageRef) -> int:
        return self._starts[image.split] + image.row
