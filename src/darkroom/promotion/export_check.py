"""Whether an exported model gives the predictions that were recorded when it was evaluated."""

from pathlib import Path
from typing import Literal

import torch

from darkroom.data.batches import Split
from darkroom.evaluation.logits import LogitsFunction, predict_logits
from darkroom.formats.onnx import read_onnx, write_onnx
from darkroom.formats.parity import BATCH_SIZES, differing_predictions, nan_on_failure
from darkroom.promotion.evaluated_model import EvaluatedModel
from darkroom.utils.scratch import scratch_directory

# Asked one by one; all of them would take many times as long.
SINGLE_IMAGES = 500


def differing_answers(evaluated: EvaluatedModel, form: Literal["pt2", "onnx"], cache: Path) -> int:
    """How many test images get another answer than the recorded one, or none, in batches of any of the sizes.

    It runs as registered (pt2), or in ONNX Runtime. Raises TrackingError if ``cache`` does not hold the test
    images, CacheError if it is damaged, ModelError if the form cannot be written.
    """
    test = evaluated.test_split(cache)
    model = evaluated.load() if form == "pt2" else _as_onnx(evaluated)
    answer = nan_on_failure(model, len(evaluated.answers.classes))
    recorded = torch.from_numpy(evaluated.answers.predicted)
    differs = torch.zeros(len(test), dtype=torch.bool)
    first = Split(test.images[:SINGLE_IMAGES], test.labels[:SINGLE_IMAGES])
    for batch_size in BATCH_SIZES:
        split = test if batch_size > 1 else first
        logits = predict_logits(answer, split, batch_size)
        differs[: len(split)] |= differing_predictions(logits, recorded[: len(split)])
    return int(differs.sum())


def _as_onnx(evaluated: EvaluatedModel) -> LogitsFunction:
    with scratch_directory() as place:
        path = place / "model.onnx"
        write_onnx(evaluated.program(), {}, path)
        return read_onnx(path)
