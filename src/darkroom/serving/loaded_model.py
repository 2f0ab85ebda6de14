"""A registered version, loaded with everything that answering with it needs."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model
from numpy.typing import NDArray

from darkroom.config.settings import Serve
from darkroom.errors import ModelError
from darkroom.evaluation.gallery import GALLERY
from darkroom.evaluation.metrics import Floats
from darkroom.evaluation.page import REPORT
from darkroom.evaluation.prediction_sets import Members, PredictionSets
from darkroom.evaluation.reference import Reference, calibrated, energies
from darkroom.images.decoder import Decoder
from darkroom.promotion.evaluated_model import EvaluatedModel, load_evaluated_model
from darkroom.promotion.registry import MODEL_FILE, contender
from darkroom.serving.preprocessing import Transform
from darkroom.serving.runtime import Images, Logits, Runtime, choose_runtime
from darkroom.serving.share import cores
from darkroom.tracking.runs import FINGERPRINT_TAG
from darkroom.utils.files import read_json
from darkroom.utils.scratch import scratch_directory

log = logging.getLogger(__name__)
MADE_BY = "darkroom evaluate"
CONFUSION = "confusion_matrix.json"
METRICS = "metrics.json"
# Images to try a model on that has no gallery.
PROBE_IMAGES = 4
# By how much two logits may differ, as a share of the largest one, that are taken for a draw.
DRAW = 1e-3


@dataclass(frozen=True)
class GalleryImage:
    """A test image, its file, with its class and the one that was predicted when the model was evaluated."""

    png: bytes
    actual: str
    predicted: str


class Findings(NamedTuple):
    """What logits say of N images.

    ``probabilities`` float64 [N, classes] are calibrated; ``energies`` float64 [N] are the higher, the less an image is
    like the training images, and ``unlike`` bool [N] whether they are above the threshold of the validation split.
    ``members`` bool [N, classes] are the labels of the prediction sets, None for a version without such sets.
    """

    probabilities: Floats
    energies: Floats
    unlike: NDArray[np.bool_]
    members: Members | None


@dataclass(frozen=True)
class LoadedModel:
    """``version`` of the registered model ``name``: what computes its answers, and what is known of it.

    ``reference``, ``sets``, ``confusion`` and ``report``, the HTML of its evaluation, are None and ``gallery`` is empty
    for a version without them.
    """

    name: str
    version: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    transform: Transform
    runtime: Runtime
    reference: Reference | None
    gallery: Sequence[GalleryImage]
    confusion: Mapping[str, Any] | None
    about: Mapping[str, Any]
    report: bytes | None = None
    sets: PredictionSets | None = None

    def interpret(self, logits: Logits) -> Findings:
        """What the ``logits`` float32 [N, classes] of this version say."""
        reference = self.reference
        temperature, threshold = (reference.temperature, reference.energy_threshold) if reference else (1.0, np.inf)
        probabilities, scores = calibrated(logits, temperature), energies(logits)
        members = self.sets.of(probabilities, scores) if self.sets else None
        return Findings(probabilities, scores, scores > threshold, members)


def load_version(client: MlflowClient, version: ModelVersion, settings: Serve) -> LoadedModel:
    """Load a version and try it on images whose answers were recorded.

    Raises TrackingError or ModelError if it is not what was registered or does not give those answers, and
    MlflowException if the store does not answer.
    """
    with scratch_directory() as place:
        evaluated = load_evaluated_model(client, contender(version), place)
        reference, report = evaluated.reference(), evaluated.report
        gallery = _read_gallery(report)
        channels, height, width = evaluated.shape
        shape = (channels, height, width)
        signs = (reference.ink, reference.ground) if reference else (None, None)
        transform = Transform(shape, evaluated.metadata.get("mean"), *signs, evaluated.decoder())
        probe = _pixels(gallery, shape) if gallery else np.zeros((PROBE_IMAGES, *shape), np.uint8)
        program = torch.export.load(evaluated.model / MODEL_FILE)
        about = _about(version, evaluated) | {"parameters": sum(each.numel() for each in program.parameters())}
        runtime = choose_runtime(program, settings.runtime, probe, about, place, cores(settings))
        classes = evaluated.answers.classes
        _self_test(version, runtime.infer(probe), classes, gallery)
        confusion, page = report / CONFUSION, report / REPORT
        return LoadedModel(
            name=version.name,
            version=str(version.version),
            classes=classes,
            shape=shape,
            transform=transform,
            runtime=runtime,
            reference=reference,
            gallery=gallery,
            confusion=read_json(confusion, error=ModelError, made_by=MADE_BY) if confusion.is_file() else None,
            about=about,
            report=page.read_bytes() if page.is_file() else None,
            sets=_sets(version, reference, classes, settings),
        )


def _sets(
    version: ModelVersion, reference: Reference | None, classes: Sequence[str], settings: Serve
) -> PredictionSets | None:
    def tell(line: str) -> None:
        log.warning("%s version %s: %s", version.name, version.version, line)

    return reference.prediction_sets(settings, classes, tell) if reference else None


def _read_gallery(report: Path) -> list[GalleryImage]:
    if not (report / GALLERY).is_file():
        return []
    found = json.loads((report / GALLERY).read_text(encoding="utf-8"))
    return [GalleryImage((report / each["file"]).read_bytes(), each["actual"], each["predicted"]) for each in found]


def _pixels(gallery: Sequence[GalleryImage], shape: Sequence[int]) -> Images:
    # They are what the model has seen: in 8 bits, whatever depth the files had.
    decoder = Decoder.parse({}, shape)
    return np.stack([decoder(example.png) for example in gallery])


def _self_test(version: ModelVersion, logits: Logits, classes: Sequence[str], gallery: Sequence[GalleryImage]) -> None:
    """Raises ModelError unless the model gives, for images of its gallery, the answers that were recorded."""
    who = f"{version.name} version {version.version}"
    if logits.shape[1:] != (len(classes),) or not np.isfinite(logits).all():
        raise ModelError(f"{who}: failed its self-test: answers {logits.shape} that are not logits of its classes")
    draw = DRAW * np.abs(logits).max()
    recorded = [classes.index(example.predicted) for example in gallery]
    wrong = [row for row, label in enumerate(recorded) if logits[row, label] < logits[row].max() - draw]
    if wrong:
        raise ModelError(
            f"{who}: failed its self-test: {len(wrong)} of {len(gallery)} answers are not those that were recorded"
        )


def _about(version: ModelVersion, evaluated: EvaluatedModel) -> dict[str, Any]:
    """The model's card for people and programs: JSON values. Its run is not asked: that may be deleted."""
    card, metrics = evaluated.card(), evaluated.report / METRICS
    settings = card.settings if card else {}
    trained = datetime.fromisoformat(Model.load(evaluated.model).utc_time_created).replace(tzinfo=UTC)
    return {
        "name": version.name,
        "version": str(version.version),
        "architecture": settings.get("model", {}).get("name"),
        "dataset": settings.get("dataset", {}).get("name"),
        "classes": list(evaluated.answers.classes),
        "shape": list(evaluated.shape),
        "metrics": read_json(metrics, error=ModelError, made_by=MADE_BY) if metrics.is_file() else {},
        "fingerprint": version.tags.get(FINGERPRINT_TAG),
        "run_id": version.run_id,
        "trained_at": trained.isoformat(timespec="seconds"),
    }
