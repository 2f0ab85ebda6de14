"""Everything that is measured of a model's answers to the test images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from darkroom.config.settings import Evaluate
from darkroom.data.batches import CPU, Split
from darkroom.evaluation.logits import predict_logits
from darkroom.evaluation.metrics import Evaluation, Floats, measure
from darkroom.evaluation.prediction_sets import Members, coverage_by_class, measure_sets
from darkroom.evaluation.tta import average_logits
from darkroom.models.classifier import Classifier

TTA_METRICS = ("accuracy", "log_loss")
CALIBRATED_METRICS = ("log_loss", "calibration_error")


def measure_all(
    classifier: Classifier,
    logits: Floats,
    test: Split,
    classes: tuple[str, ...],
    settings: Evaluate,
    temperature: float,
    members: Members | None,
) -> Evaluation:
    """The metrics of the model as it is registered, and those at ``temperature`` and with augmentation.

    ``logits`` [N, classes] are the model's for the ``test`` images, and ``members`` bool [N, classes] its prediction
    sets, if it has any.
    """
    labels = test.labels.numpy()

    def measured(logits: Floats) -> Evaluation:
        return measure(logits, labels, classes, top_k=settings.top_k, bins=settings.calibration_bins)

    found = measured(logits)
    at_temperature = measured(logits / temperature).summary
    summary = found.summary | _named("calibrated", at_temperature, CALIBRATED_METRICS)
    if settings.tta != "none":
        averaging = partial(average_logits, classifier, tta=settings.tta)
        batch_size = test.at_once(settings.batch_size, CPU)
        augmented = measured(predict_logits(averaging, test, batch_size).numpy()).summary
        summary |= _named("tta", augmented, TTA_METRICS)
    return _with_sets(replace(found, summary=summary), members, classes)


def _with_sets(found: Evaluation, members: Members | None, classes: Sequence[str]) -> Evaluation:
    """The metrics with those of the prediction sets ``members`` bool [N, classes], if there are any."""
    if members is None:
        return found
    coverages = coverage_by_class(members, found.labels)
    per_class = {name: found.per_class[name] | own for name, own in zip(classes, coverages, strict=True)}
    return replace(found, summary=found.summary | measure_sets(members, found.labels), per_class=per_class)


def _named(prefix: str, summary: Mapping[str, float], metrics: Sequence[str]) -> dict[str, float]:
    """Some metrics of a summary with their intervals, under names that begin with ``prefix``."""
    return {f"{prefix}_{key}{end}": summary[f"{key}{end}"] for key in metrics for end in ("", "_low", "_high")}
