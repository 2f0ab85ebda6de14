"""The images of a report: within bounds, with what the model thinks of them and the train images beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.data.batches import Pixels, Split
from darkroom.evaluation.metrics import Evaluation, Floats, Ints
from darkroom.evaluation.neighbors import TrainNeighbors
from darkroom.evaluation.page.choice import Judged, rank
from darkroom.evaluation.slices import Slicing
from darkroom.pages.images import data_uri

MAX_SHOWN = 1000
# A report has up to 10 MB then, and opens at once on a phone.
OWN_BYTES = 4_000_000
NEIGHBOR_BYTES = 4_000_000
# Pixels of the longer side of a photograph.
SIDE = 256
NEIGHBOR_SIDE = 112
NEIGHBORS = 5
MOST_PROBABLE = 5
# Images that are read at once.
BLOCK = 64


@dataclass(frozen=True)
class NamedImages:
    """The N test images, the ``names`` of their files (empty if they have none), and their slices."""

    split: Split
    names: Sequence[str]
    slicing: Slicing


def draw(
    found: Evaluation,
    judged: Judged,
    calibrated: Floats,
    test: NamedImages,
    neighbors: TrainNeighbors | None,
    sets: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """The images to show as JSON values: ``images``, each with its ``near`` ones, which index ``train``.

    ``calibrated`` [N, classes] are the probabilities; ``sets`` bool [N, classes] are the prediction sets, if there are
    any. Without ``neighbors`` no image has any; nor have those for which there is no room left.
    """
    rows = rank(found, judged)[:MAX_SHOWN]
    sources = _sources(test.split.pixels, rows, SIDE, OWN_BYTES)
    rows = rows[: len(sources)]
    shown = []
    for row, source in zip(rows.tolist(), sources, strict=True):
        top = np.argsort(-calibrated[row], kind="stable")[:MOST_PROBABLE]
        shown.append(
            {
                "source": source,
                "row": row,
                "file": test.names[row] if test.names else "",
                "actual": int(found.labels[row]),
                "predicted": int(found.predicted[row]),
                "top": [[label, round(float(calibrated[row, label]), 6)] for label in top.tolist()],
                "own": round(float(calibrated[row, found.labels[row]]), 6),
                "doubt": round(float(judged.doubt[row]), 6),
                "loss": round(float(judged.loss[row]), 4),
                "energy": round(float(judged.energy[row]), 4),
                "slices": {attribute: values[row] for attribute, values in test.slicing.items() if values[row]},
                "set": None if sets is None else np.flatnonzero(sets[row]).tolist(),
                "near": [],
            }
        )
    train = _draw_neighbors(shown, test.split, rows, neighbors) if neighbors else []
    return {"images": shown, "train": train, "lookedAt": neighbors.looked_at if neighbors else 0}


def _draw_neighbors(
    shown: Sequence[dict[str, Any]], test: Split, rows: Ints, neighbors: TrainNeighbors
) -> list[dict[str, Any]]:
    """The train images near those that are ``shown``, the ``rows`` of ``test``; their places go into ``near``."""
    near, likeness = neighbors.nearest(test, rows, NEIGHBORS)
    # In the order in which they are first shown.
    every, first = np.unique(near, return_index=True)
    distinct = every[np.argsort(first)]
    sources = _sources(neighbors.train.pixels, distinct, NEIGHBOR_SIDE, NEIGHBOR_BYTES)
    places = dict(zip(distinct.tolist(), range(len(sources)), strict=False))
    for image, its_rows, alike in zip(shown, near.tolist(), likeness.tolist(), strict=True):
        if all(row in places for row in its_rows):
            image["near"] = [[places[row], round(cosine, 3)] for row, cosine in zip(its_rows, alike, strict=True)]
    labels = neighbors.train.labels[distinct].tolist()
    return [
        {"source": source, "file": neighbors.names[row] if neighbors.names else f"train image {row}", "label": label}
        for source, row, label in zip(sources, distinct.tolist(), labels, strict=False)
    ]


def _sources(images: Pixels, rows: Ints, side: int, most_bytes: int) -> list[str]:
    """The first of the ``rows``, as many as ``most_bytes`` hold, as data URIs."""
    found: list[str] = []
    left = most_bytes
    for start in range(0, len(rows), BLOCK):
        for pixels in images[rows[start : start + BLOCK]]:
            source = data_uri(pixels, side)
            left -= len(source)
            if left < 0:
                return found
            found.append(source)
    return found
