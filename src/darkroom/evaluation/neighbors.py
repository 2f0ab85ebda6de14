"""The train images that a model takes for most like a test image: by these it was taught what to answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from darkroom.data.batches import Split
from darkroom.evaluation.directions import directions, directions_of
from darkroom.models.classifier import Classifier

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TrainNeighbors:
    """The ``train`` split of a ``classifier``, in which neighbors of images are looked for.

    Of a large split only ``limit`` images, evenly spaced, are looked at. ``names`` are the files of all of them; empty
    if they have none. Features that are here already are not computed again: ``known`` are those of the split, with
    the head that takes them, and ``asked`` float16 [N, D] those of all images that ``nearest`` may be asked about.
    """

    classifier: Classifier
    train: Split
    names: Sequence[str]
    limit: int
    batch_size: int
    known: tuple[nn.Module, Split] | None = None
    asked: Tensor | None = None

    @property
    def looked_at(self) -> int:
        return min(self.limit, len(self.train))

    def nearest(self, images: Split, rows: Ints, count: int) -> tuple[Ints, Floats]:
        """Of each of the ``rows`` int64 [n] of ``images`` the nearest train images: their rows, and how alike they are.

        Both are [n, count], or fewer where there are fewer; the most alike first. By the cosine, -1 to 1, between what
        the last layer is given. The features of the train split are never all in memory.
        """
        those = torch.from_numpy(rows)
        asked = (
            torch.cat(list(directions(self.classifier, images, those, self.batch_size)))
            if self.asked is None
            else directions_of(self.asked[those])
        )
        some_rows = self.train.some_rows(self.looked_at)
        likeness, places = asked.new_empty(len(rows), 0), some_rows.new_empty(len(rows), 0)
        described = directions(*(self.known or (self.classifier, self.train)), some_rows, self.batch_size)
        for features in described:
            some, some_rows = some_rows[: len(features)], some_rows[len(features) :]
            alike, best = (asked @ features.T).topk(min(count, len(some)))
            places, likeness = torch.cat([places, some[best]], dim=1), torch.cat([likeness, alike], dim=1)
            likeness, best = likeness.topk(min(count, likeness.shape[1]))
            places = places.gather(1, best)
        return places.numpy(), likeness.numpy()
