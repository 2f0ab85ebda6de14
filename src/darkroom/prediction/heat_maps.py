"""Write a heat map of each picture of `darkroom predict`, as PNG files in a directory."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import DataError
from darkroom.explanation.explainer import Explainer
from darkroom.explanation.picture import beside
from darkroom.prediction.shards import Picture
from darkroom.utils.files import atomic_directory

if TYPE_CHECKING:
    from darkroom.prediction.predictor import Predictor

# Given pictures, their pixels uint8 [n, C, H, W], and their probabilities float64 [n, classes].
Draw = Callable[[Sequence[Picture], NDArray[np.uint8], NDArray[np.float64]], None]
# Characters of a picture's name that its file has: file systems allow 255 bytes.
LONGEST = 60


def check_directory(path: Path) -> None:
    """Raise DataError unless heat maps can be written to a new or empty directory at ``path``."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "is not empty" if path.is_dir() else "is a file"
        raise DataError(f"--explain {path}: {what}; expected a new or empty directory")


@contextmanager
def open_heat_maps(path: Path, predictor: "Predictor") -> Iterator[Draw]:
    """A function that writes heat maps of the most probable class; the directory appears only if the block succeeds.

    Each file has the name of its picture, and shows what the model saw, plain and tinted. Any thread may call it.
    Raises ModelError if a heat map would take too long.
    """
    decoder = predictor.transform.decoder
    explainer = Explainer(predictor.model, (decoder.channels, *decoder.size))
    _ = explainer.plan  # measured, or refused, before there is any other work
    taken: Counter[str] = Counter()
    lock = Lock()

    def new_name(picture: Picture) -> str:
        name = picture.inside.replace("/", "_")[-LONGEST:]
        with lock:
            taken[name.lower()] += 1
            number = taken[name.lower()]
        return f"{name}.png" if number == 1 else f"{name}-{number}.png"

    with atomic_directory(path) as written:

        def draw(pictures: Sequence[Picture], pixels: NDArray[np.uint8], probabilities: NDArray[np.float64]) -> None:
            heat = explainer.explain(pixels, probabilities.argmax(1))
            for picture, image, of_image in zip(pictures, pixels, heat, strict=True):
                beside(image, of_image).save(written / new_name(picture))

        yield draw
