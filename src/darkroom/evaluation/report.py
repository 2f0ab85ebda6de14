"""Reading the report that `evaluate` has written."""

from pathlib import Path
from typing import Any

from darkroom.errors import ModelError
from darkroom.evaluation.predictions import IDENTITY, PREDICTIONS, Identity
from darkroom.models.card import ModelCard
from darkroom.utils.files import checked, need_output, read_json, sha256

METRICS = ("accuracy", "accuracy_low", "accuracy_high", "f1_macro", "log_loss", "calibration_error")
# Not every report has these.
INTERVALS = tuple(f"{key}_{end}" for key in ("f1_macro", "log_loss", "calibration_error") for end in ("low", "high"))
EVALUATE = "darkroom evaluate"
# No metric is larger: beyond this a float cannot represent every whole number.
LARGEST = 1 << 53


def read_identity(report: Path, card: ModelCard) -> Identity:
    """The identity of the evaluation in ``report``. Raises ModelError if it does not match ``card``."""
    path = need_output(report / IDENTITY, error=ModelError, made_by=EVALUATE)
    written = read_json(path, error=ModelError, made_by=EVALUATE)
    found = checked(Identity, written, path, error=ModelError, made_by=EVALUATE)
    if found.weights_sha256 != card.weights_sha256:
        raise ModelError(f"{report}: an evaluation of other weights than models/ holds; run `{EVALUATE}` again")
    if found.fingerprint != card.dataset_card.fingerprint:
        raise ModelError(f"{report}: an evaluation on other data than models/ was trained on; run `{EVALUATE}` again")
    predictions = need_output(report / PREDICTIONS, error=ModelError, made_by=EVALUATE)
    if sha256(predictions) != found.predictions_sha256:
        raise ModelError(f"{predictions}: changed since it was written; run `{EVALUATE}` again")
    return found


def read_metrics(report: Path) -> dict[str, Any]:
    """The metrics of the evaluation in ``report``. Raises ModelError if they are missing or damaged."""
    path = need_output(report / "metrics.json", error=ModelError, made_by=EVALUATE)
    found = read_json(path, error=ModelError, made_by=EVALUATE)
    if lacking := [key for key in METRICS if key not in found]:
        raise ModelError(f"{path}: lacks {', '.join(lacking)}; run `{EVALUATE}` again")
    if wrong := [key for key, value in found.items() if not _is_number(value)]:
        raise ModelError(f"{path}: damaged ({wrong[0]}: expected a number); run `{EVALUATE}` again")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
