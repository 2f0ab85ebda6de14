"""A model that classifies image files."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from mlflow import MlflowClient
from numpy.typing import NDArray
from torch import Tensor

from darkroom.config import Config, parse
from darkroom.config.settings import Model, Serve
from darkroom.data.cache import DatasetCard
from darkroom.data.glyph_layout import Ground, on_light
from darkroom.errors import DataError, ModelError
from darkroom.evaluation.metrics import Floats
from darkroom.evaluation.prediction_sets import Members, PredictionSets
from darkroom.evaluation.reference import Reference, calibrated, energies
from darkroom.images.decoder import Decoder
from darkroom.models.card import ModelCard
from darkroom.models.files import load_weights
from darkroom.models.registry import architectures
from darkroom.prediction.bulk import rank, see
from darkroom.prediction.shards import Picture
from darkroom.promotion.evaluated_model import load_evaluated_model
from darkroom.promotion.registry import MODEL_FILE, champion, contender
from darkroom.serving.preprocessing import ModelInput, RefusedImageError, Transform
from darkroom.utils.console import warn
from darkroom.utils.files import sha256
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace

# Mean brightness of gray training images, 0 to 1, below which most of them lie on a dark ground, and above which on a
# light one. Between the two they may be anything, as photographs are.
DARK_GROUND = 0.4
LIGHT_GROUND = 0.6


@dataclass(frozen=True)
class ImagePrediction:
    """The prediction for one image: a probability for each class, the most probable first.

    ``inverted`` says whether the model saw the picture's negative, ``unlike_training`` whether the picture is further
    from the training images than almost all of the validation split.
    """

    image: str
    probabilities: dict[str, float]
    inverted: bool = False
    unlike_training: bool = False

    @property
    def label(self) -> str:
        return next(iter(self.probabilities))


class ExportedModel:
    """A model from the content of its file, torch's exported program, which goes with it to other processes."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self._module = torch.export.load(BytesIO(content)).module()

    def __call__(self, images: Tensor) -> Tensor:
        logits: Tensor = self._module(images)
        return logits

    def __reduce__(self) -> tuple[type[Self], tuple[bytes]]:
        return type(self), (self.content,)


class Predictor:
    """A model with everything that predicting needs.

    ``model`` maps uint8 images [N, *shape] to logits; ``mean`` is the mean brightness of each channel of its
    training images, 0 to 1; ``version`` names the model, and ``weights`` is the SHA-256 of its file. Its
    ``reference``, if it has one, calibrates the probabilities and determines which pictures are unlike the training
    images, and which are negatives of them. ``sets`` make its prediction sets, if it has any.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        classes: Sequence[str],
        shape: Sequence[int],
        version: str,
        mean: Sequence[float] | None = None,
        reference: Reference | None = None,
        decoder: Decoder | None = None,
        weights: str = "",
        sets: PredictionSets | None = None,
    ) -> None:
        self.model = model
        self.weights = weights
        self.classes = classes
        self.sets = sets
        signs = (reference.ink, reference.ground) if reference else (None, None)
        self.transform = Transform(shape, mean, *signs, decoder)
        self.version = version
        self._usual_ground = None if self.transform.ground else _usual_ground(mean)
        self.temperature = reference.temperature if reference else 1.0
        self.energy_threshold = reference.energy_threshold if reference else np.inf

    @classmethod
    def champion(cls, client: MlflowClient, name: str, settings: Serve) -> Self:
        """Load the champion of the registered model ``name``, with prediction sets of the coverage in ``settings``.

        Raises TrackingError if there is none, or it is not as it was registered, ModelError if its reference is
        damaged.
        """
        version = champion(client, name)
        with scratch_directory() as place:
            evaluated = load_evaluated_model(client, contender(version), place)
            model = ExportedModel((evaluated.model / MODEL_FILE).read_bytes())
            reference, mean, decoder = evaluated.reference(), evaluated.metadata.get("mean"), evaluated.decoder()
        if reference is None:
            warn(
                f"{name} version {version.version}: was registered without reference.json; its probabilities are not "
                "calibrated, and no picture is reported as unlike the training images"
            )
        classes = evaluated.answers.classes

        def tell(line: str) -> None:
            warn(f"{name} version {version.version}: {line}")

        return cls(
            model,
            classes,
            evaluated.shape,
            str(version.version),
            mean,
            reference,
            decoder,
            hashlib.sha256(model.content).hexdigest(),
            reference.prediction_sets(settings, classes, tell) if reference else None,
        )

    @classmethod
    def from_weights(cls, path: Path, name: str | None, config: Config, workspace: Workspace) -> Self:
        """Load a state_dict into the architecture ``name``.

        The card that `darkroom export` wrote beside the file has its settings and classes. Without one, they
        are those of params.yaml and of the dataset it names, which must have been preprocessed.
        Raises ModelError or CacheError.
        """
        beside = path.with_suffix(".json")
        if beside.is_file():
            card = ModelCard.read(beside)
            dataset = card.dataset_card
            settings = parse(card.settings, where=f"{beside}: settings.").model
            if name not in (None, settings.name):
                raise ModelError(f"{path}: these are weights of {settings.name}, as {beside} says, not of {name}")
        elif name is None:
            choices = ", ".join(architectures())
            raise ModelError(f"{path}: has no card beside it; name its architecture with --model ({choices})")
        else:
            dataset = DatasetCard.read(workspace.processed(config.dataset.name))
            settings = config.model if config.model.name == name else Model.model_validate({"name": name})
        classifier = load_weights(path, settings, dataset)
        decoder = Decoder.parse(dataset.decoder, dataset.shape)
        return cls(
            classifier, dataset.classes, dataset.shape, str(path), dataset.mean, decoder=decoder, weights=sha256(path)
        )

    def identity(self) -> dict[str, Any]:
        """What its answers depend on, as JSON."""
        transform = self.transform
        return {
            "model": self.version,
            "weights": self.weights,
            "classes": list(self.classes),
            "decoding": [transform.decoder.as_json(), transform.mean, transform.ground],
            "calibration": [self.temperature, str(self.energy_threshold)],
            "sets": self.sets.thresholds.tolist() if self.sets else None,
        }

    def predict(self, paths: Sequence[Path], *, invert: bool | None = None) -> list[ImagePrediction]:
        """Classify image files, through the same transform as in preprocessing.

        ``invert`` makes the model see their negatives; by default it does where the training images all lie on one
        ground, dark or light, and a picture on the other.

        Raises DataError if one cannot be read or decoded.
        """
        seen = [_see(self.transform, path, invert) for path in paths]
        probabilities, unlike, _ = self.answer(np.stack([each.pixels for each in seen]))
        return [
            ImagePrediction(str(path), rank(self.classes, row), each.inverted, bool(is_unlike))
            for path, row, each, is_unlike in zip(paths, probabilities, seen, unlike, strict=True)
        ]

    def answer(self, pixels: NDArray[np.uint8]) -> tuple[Floats, NDArray[np.bool_], Members | None]:
        """The predictions for images, uint8 [N, *shape].

        Returns the probabilities, float64 [N, classes], and which images are unlike the training images, bool [N],
        and the prediction sets, bool [N, classes], None if the model has none.
        """
        with torch.no_grad():
            logits = self.model(torch.from_numpy(pixels)).numpy()
        probabilities, scores = calibrated(logits, self.temperature), energies(logits)
        members = self.sets.of(probabilities, scores) if self.sets else None
        return probabilities, scores > self.energy_threshold, members

    def perhaps_negative(self, pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which images, uint8 [N, *shape], may be negatives of the training images, bool [N].

        With a reference that records the background, there are none: negatives have been inverted. Otherwise only the
        mean brightness of the training images shows which background most of them have.
        """
        if self._usual_ground is None:
            return np.zeros(len(pixels), bool)
        return np.not_equal(on_light(pixels), self._usual_ground == "light")


def _usual_ground(mean: Sequence[float] | None) -> Ground | None:
    if mean is None or len(mean) > 1 or DARK_GROUND <= mean[0] <= LIGHT_GROUND:
        return None
    return "dark" if mean[0] < DARK_GROUND else "light"


def _see(transform: Transform, path: Path, invert: bool | None) -> ModelInput:
    try:
        return see(transform, Picture(str(path), path.name), invert)
    except RefusedImageError as problem:
        raise DataError(f"{path}: {problem}") from None
