"""What the evaluation of a version has left with its run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from darkroom.data.images import Decoder
from darkroom.errors import ModelError
from darkroom.evaluation.reference import REFERENCE, Reference
from darkroom.tracking.store import does_not_answer


def download_report(version: ModelVersion, names: Sequence[str], place: Path) -> Path:
    """Bring files and directories of the report to ``place``, those that it has: one of an earlier Darkroom has fewer.

    Raises MlflowException if the store does not answer.
    """
    place.mkdir()
    for name in names:
        try:
            download_artifacts(f"runs:/{version.run_id}/evaluate/{name}", dst_path=str(place))
        except (MlflowException, OSError) as problem:
            if does_not_answer(problem) and not isinstance(problem, FileNotFoundError):
                raise
    return place


def registered_decoder(metadata: Mapping[str, Any]) -> Decoder:
    """How pictures become pixels for a registered model, from what MLflow holds of it."""
    card = metadata.get("card") or {}
    return Decoder.parse(card.get("dataset", {}).get("decoder", {}), metadata["shape"])


def read_reference(report: Path, classes: Sequence[str]) -> Reference | None:
    """The reference in a report, None if it has none. Raises ModelError if it is damaged, or not of these classes."""
    path = report / REFERENCE
    if not path.is_file():
        return None
    found = Reference.read(path)
    if len(found.class_shares) != len(classes):
        raise ModelError(
            f"{path}: of a model of {len(found.class_shares)} classes, but this one has {len(classes)}; "
            "run `darkroom evaluate` again"
        )
    return found
