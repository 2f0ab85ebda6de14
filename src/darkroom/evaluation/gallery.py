"""Test images to view and to try a model on: from every class, correct predictions and some mistakes."""

from collections.abc import Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path

import numpy as np

from darkroom.data.batches import Pixels
from darkroom.evaluation.metrics import Evaluation, Ints
from darkroom.plotting import COMPRESSION
from darkroom.utils.files import write_json

# What a page shows at once, and how many of them are mistakes.
IMAGES = 30
MISTAKES = 6
GALLERY = "gallery.json"
PICTURES = "gallery"


def choose(found: Evaluation) -> Ints:
    """The rows of a gallery, by class: the same for the same predictions, from as many classes as it has room for.

    A fifth are mistakes, if there are that many.
    """
    is_wrong = found.predicted != found.labels
    mistakes = _draw(np.flatnonzero(is_wrong), found.labels, MISTAKES)
    right = _draw(np.flatnonzero(~is_wrong), found.labels, IMAGES - len(mistakes))
    rows = np.concatenate([right, mistakes])
    chosen: Ints = rows[np.lexsort((rows, found.labels[rows]))]
    return chosen


def _draw(rows: Ints, labels: Ints, count: int) -> Ints:
    """Up to ``count`` random ``rows``, from each class in turn until it has none left."""
    shuffled = np.random.default_rng(0).permutation(rows)
    _, first = np.unique(labels[shuffled], return_index=True)
    # In the order in which the classes turn up: the first ones by name are not favored.
    by_class = [shuffled[labels[shuffled] == label] for label in labels[shuffled[np.sort(first)]]]
    in_turn = chain.from_iterable(zip_longest(*by_class))
    return np.array(list(islice((row for row in in_turn if row is not None), count)), np.int64)


def write_gallery(images: Pixels, found: Evaluation, classes: Sequence[str], directory: Path) -> None:
    """Write some of the test ``images`` [N, C, H, W] as PNG, with their true and predicted classes, to ``directory``.

    The PNG files hold the pixels that the model was given.
    """
    from PIL import Image

    (directory / PICTURES).mkdir()
    listed = []
    rows = choose(found)
    for row, pixels in zip(rows.tolist(), images[rows], strict=True):
        name = f"{PICTURES}/{row:06d}.png"
        picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        picture.save(directory / name, compress_level=COMPRESSION)
        actual, predicted = classes[found.labels[row]], classes[found.predicted[row]]
        listed.append({"file": name, "actual": actual, "predicted": predicted})
    write_json(directory / GALLERY, listed)
