"""The champion, answering for image files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import mlflow.pytorch
import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.models import get_model_info

from darkroom.data.images import BrokenImageError, Channels, read
from darkroom.errors import DataError, TrackingError
from darkroom.promotion import champion


@dataclass(frozen=True)
class Prediction:
    """The answer for one image: a probability for each class, the most probable first."""

    image: str
    probabilities: dict[str, float]

    @property
    def label(self) -> str:
        return next(iter(self.probabilities))


class Predictor:
    """A registered model with the names and the shape that belong to it."""

    def __init__(self, model: Any, classes: Sequence[str], shape: tuple[Channels, int, int], version: str) -> None:
        self.model = model
        self.classes = classes
        self.shape = shape
        self.version = version

    @classmethod
    def champion(cls, client: MlflowClient, name: str) -> Self:
        """Load the champion of the registered model ``name``. Raises TrackingError if there is none."""
        version = champion(client, name)
        uri = f"models:/{name}/{version.version}"
        metadata = get_model_info(uri).metadata or {}
        if not {"classes", "shape"} <= metadata.keys():
            raise TrackingError(
                f"{uri} was not made by darkroom: it lacks its class names; register one by `dvc repro`"
            )
        channels, height, width = metadata["shape"]
        return cls(mlflow.pytorch.load_model(uri), metadata["classes"], (channels, height, width), version.version)

    def predict(self, paths: Sequence[Path]) -> list[Prediction]:
        """Classify image files, through the same transform as in preprocessing.

        Raises DataError if one cannot be read or decoded.
        """
        channels, height, width = self.shape
        images = np.stack([_read(path, channels, (height, width)) for path in paths])
        with torch.no_grad():
            probabilities = self.model(torch.from_numpy(images)).softmax(1).numpy()
        return [
            Prediction(str(path), {self.classes[index]: float(row[index]) for index in np.argsort(-row, kind="stable")})
            for path, row in zip(paths, probabilities, strict=True)
        ]


def _read(path: Path, channels: Channels, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    try:
        return read(path, channels, size)
    except OSError as problem:
        raise DataError(f"{path}: cannot be read ({(problem.strerror or str(problem)).lower()})") from None
    except BrokenImageError as problem:
        raise DataError(f"{path}: cannot be decoded ({problem}); expected png, jpeg, webp, bmp or tiff") from None
