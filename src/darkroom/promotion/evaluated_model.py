"""A registered model with its evaluation, loaded from the store and checked.

Code that compares, promotes, exports, serves or runs a registered model gets it from here, with its digests checked.
Torch, which takes seconds to import, is imported only by code that runs the model: most need only its predictions.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from darkroom.data.difference import LISTING, Listing
from darkroom.errors import ModelError, TrackingError
from darkroom.evaluation.pairing import Pairing, pair_equal, pair_shared
from darkroom.evaluation.predictions import PREDICTIONS, SplitPredictions, read_predictions
from darkroom.evaluation.reference import REFERENCE, Reference
from darkroom.evaluation.robustness import ROBUSTNESS, Robustness
from darkroom.images.decoder import Decoder
from darkroom.models.card import ModelCard
from darkroom.promotion.registry import EVALUATION, MODEL_FILE, Contender
from darkroom.tracking.runs import FINGERPRINT_TAG, MODEL_TAG, PREDICTIONS_TAG, REFERENCE_TAG, ROBUSTNESS_TAG
from darkroom.tracking.store import does_not_answer
from darkroom.utils.files import sha256

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

    from darkroom.data.batches import Split

REGISTER_AGAIN = "run `darkroom register` in the project that has its files, or train it again"


@dataclass(frozen=True)
class EvaluatedModel:
    """A contender with its predictions; ``fingerprint`` is that of its data.

    ``shape`` is that of the images it takes, (channels, height, width); ``model`` the directory of a copy that MLflow
    loads, with the digest that was registered, and ``report`` that of a copy of its evaluation.
    """

    contender: Contender
    answers: SplitPredictions
    fingerprint: str
    shape: tuple[int, ...]
    model: Path
    report: Path

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata that was registered with the model's files, as JSON values."""
        return Model.load(self.model).metadata or {}

    @property
    def size_bytes(self) -> int:
        return (self.model / MODEL_FILE).stat().st_size

    def load(self) -> "Callable[[Tensor], Tensor]":
        """The model: uint8 images [N, *shape] to float32 logits [N, classes], on the CPU."""
        import mlflow.pytorch

        model: Callable[[Tensor], Tensor] = mlflow.pytorch.load_model(str(self.model))
        return model

    def program(self) -> "ExportedProgram":
        """The model as it is registered: its graph, and its weights under the names of the classifier's modules."""
        import torch

        return torch.export.load(self.model / MODEL_FILE)

    def card(self) -> ModelCard | None:
        """The card with its settings and data, or None if the version has no card. Raises ModelError."""
        found = self.metadata.get("card")
        return ModelCard.parse(found, str(self.contender)) if found else None

    def reference(self) -> Reference | None:
        """The reference from the validation split, or None if the version has none.

        Raises ModelError if it is damaged, or not of the model's classes.
        """
        path = self.report / REFERENCE
        if not path.is_file():
            return None
        found = Reference.read(path)
        if len(found.class_shares) != len(self.answers.classes):
            raise ModelError(
                f"{path}: of a model of {len(found.class_shares)} classes, but this one has "
                f"{len(self.answers.classes)}; run `darkroom evaluate` again"
            )
        return found

    def robust_accuracy(self) -> float | None:
        """The mean accuracy on corrupted test images, or None if it was not measured. Raises ModelError."""
        if ROBUSTNESS_TAG not in self.contender.tags:
            return None
        return Robustness.read(self.report / ROBUSTNESS).corrupted.accuracy

    def decoder(self) -> Decoder:
        """The decoder of its input images."""
        card = self.metadata.get("card") or {}
        return Decoder.parse(card.get("dataset", {}).get("decoder", {}), self.shape)

    def test_split(self, cache: Path) -> "Split":
        """The test images, in the order of the predictions, from the preprocessed images in ``cache``.

        Raises TrackingError if it does not hold them, CacheError if it is damaged.
        """
        from darkroom.data.batches import read_split_of

        return read_split_of(cache, self.fingerprint, "test", str(self.contender), error=TrackingError)


def pair(a: EvaluatedModel, b: EvaluatedModel) -> Pairing:
    """The predictions of both for the same test images: for all images if the models are of the same dataset, else for
    those that both datasets share.

    Raises ValueError if they cannot be paired.
    """
    return (pair_equal if a.fingerprint == b.fingerprint else pair_shared)(a.answers, b.answers)


def load_evaluated_model(client: MlflowClient, contender: Contender, directory: Path) -> EvaluatedModel:
    """Download the evaluation of a contender to ``directory``, and check that it is what was registered.

    Raises TrackingError if a file is missing, differs from its digest or was not written by Darkroom, and
    MlflowException if the store does not respond.
    """
    digests = {key: contender.tags.get(key) for key in (FINGERPRINT_TAG, PREDICTIONS_TAG, MODEL_TAG)}
    for key, value in digests.items():
        if not value:
            raise TrackingError(f"{contender}: has no tag {key}: another program registered it; {REGISTER_AGAIN}")
    place = directory / (contender.version or contender.run_id)
    model = _fetch(contender.uri, contender, place / "model", MODEL_FILE)
    report = model / EVALUATION
    if not (report / PREDICTIONS).is_file():  # it is kept with the run alone
        report = _fetch(f"runs:/{contender.run_id}/{EVALUATION}", contender, place / "run", PREDICTIONS)
    _check(contender, model / MODEL_FILE, digests[MODEL_TAG])
    _check(contender, report / PREDICTIONS, digests[PREDICTIONS_TAG])
    for tag, name in ((REFERENCE_TAG, REFERENCE), (ROBUSTNESS_TAG, ROBUSTNESS)):
        if expected := contender.tags.get(tag):
            _check(contender, report / name, expected)
    metadata: dict[str, Any] = Model.load(model).metadata or {}
    try:
        shape = tuple(metadata["shape"])
        answers = read_predictions(report / PREDICTIONS, metadata["classes"])
    except (KeyError, ValueError) as problem:
        raise TrackingError(
            f"{contender}: its predictions do not fit its model ({problem}); {REGISTER_AGAIN}"
        ) from None
    return EvaluatedModel(contender, answers, str(digests[FINGERPRINT_TAG]), shape, model, report)


def _check(contender: Contender, path: Path, expected: str | None) -> None:
    if not path.is_file():
        raise TrackingError(f"{contender}: its {path.name} is missing from the store; {REGISTER_AGAIN}")
    if (found := sha256(path)) != expected:
        raise TrackingError(
            f"{contender}: {path.name} is not the one that was registered (SHA-256 {found[:12]}, expected "
            f"{str(expected)[:12]}): changed in the store; {REGISTER_AGAIN}"
        )


def load_listing(contender: Contender, directory: Path) -> Listing:
    """The images that a contender was trained and tested on.

    Raises TrackingError if its run does not hold their list, DataError if that is damaged, and MlflowException if the
    store does not answer.
    """
    # It may be kept with the run alone.
    for uri in (contender.uri, f"runs:/{contender.run_id}"):
        with contextlib.suppress(TrackingError):
            return Listing.read(_fetch(f"{uri}/preprocess/{LISTING}", contender, directory / contender.run_id))
    raise TrackingError(f"{contender}: the store has no list of its images; train it again to get one")


def _fetch(uri: str, contender: Contender, place: Path, needed: str = "") -> Path:
    """Download a file, or a directory with the file ``needed``: MLflow makes an empty copy of a missing directory."""
    place.mkdir(parents=True, exist_ok=True)
    try:
        found = Path(download_artifacts(uri, dst_path=str(place)))
        if (found / needed).is_file():
            return found
    except (MlflowException, OSError) as problem:
        if does_not_answer(problem) and not isinstance(problem, FileNotFoundError):
            raise
    raise TrackingError(
        f"{contender}: the store of run {contender.run_id} lacks {uri}; is "
        f"MLFLOW_TRACKING_URI that of this registry? Else {REGISTER_AGAIN}"
    )
