"""Write a heat map of each picture of `darkroom predict`, as PNG files in a directory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from darkroom.datasets.names import as_text
from darkroom.errors import DataError
from darkroom.explanation.explainer import Explainer
from darkroom.explanation.picture import beside
from darkroom.prediction.shards import Picture
from darkroom.utils.csv_files import write_spreadsheet
from darkroom.utils.files import atomic_directory

if TYPE_CHECKING:
    from darkroom.prediction.predictor import Predictor

# Given pictures with their numbers among all, their pixels uint8 [n, C, H, W], and their probabilities float64
# [n, classes].
Draw = Callable[[Sequence[tuple[int, Picture]], NDArray[np.uint8], NDArray[np.float64]], None]
# Characters of a picture's name that its file has: file systems allow 255 bytes.
LONGEST = 60
# Lists the picture that each file shows.
INDEX = "index.csv"


def check_directory(path: Path) -> None:
    """Raise DataError unless heat maps can be written to a new or empty directory at ``path``."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "is not empty" if path.is_dir() else "is a file"
        raise DataError(f"--explain {path}: {what}; expected a new or empty directory")


@contextmanager
def open_heat_maps(path: Path, predictor: "Predictor") -> Iterator[Draw]:
    """A function that writes heat maps of the most probable class; the directory appears only if the block succeeds.

    Each file has the number and the end of the name of its picture, and shows what the model saw, plain and tinted.
    INDEX lists them with the whole names. Any thread may call it, in any order: the numbers are given before.
    Raises ModelError if a heat map would take too long.
    """
    decoder = predictor.transform.decoder
    explainer = Explainer(predictor.model, (decoder.channels, *decoder.size))
    _ = explainer.plan  # measured, or refused, before there is any other work
    drawn: list[tuple[int, str, str]] = []
    with atomic_directory(path) as written:

        def draw(
            pictures: Sequence[tuple[int, Picture]], pixels: NDArray[np.uint8], probabilities: NDArray[np.float64]
        ) -> None:
            heat = explainer.explain(pixels, probabilities.argmax(1))
            for (number, picture), image, of_image in zip(pictures, pixels, heat, strict=True):
                inside = as_text(picture.inside).replace("/", "_").replace("\\", "_")
                name = f"{number:06}-{inside[-LONGEST:]}.png"
                beside(image, of_image).save(written / name)
                drawn.append((number, name, as_text(picture.file)))

        yield draw
        write_spreadsheet(written / INDEX, ("file", "picture"), (row[1:] for row in sorted(drawn)))
