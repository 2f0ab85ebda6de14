"""Notices about models of other data under the same name, and of the same data under another name."""

from pathlib import Path

from mlflow import MlflowClient

from darkroom.config import Config
from darkroom.data.cache import DatasetCard
from darkroom.data.difference import changed_classes
from darkroom.errors import TrackingError
from darkroom.evaluation.comparison import least_images
from darkroom.evaluation.pairing import pair_shared
from darkroom.evaluation.predictions import read_predictions
from darkroom.promotion.evaluated_model import load_evaluated_model
from darkroom.promotion.registry import champion, contender
from darkroom.tracking.runs import FINGERPRINT_TAG
from darkroom.utils.scratch import scratch_directory


def mismatch_notice(config: Config, client: MlflowClient, dataset: DatasetCard, predictions: Path) -> str | None:
    """A line that says so and what to do: None if the champion is a model of ``dataset``, or there is none.

    ``predictions`` is the file of the newest model, which was trained on ``dataset``. Raises MlflowException if the
    store does not answer.
    """
    try:
        serving = champion(client, config.registered_model)
    except TrackingError:
        return None
    if serving.tags.get(FINGERPRINT_TAG) == dataset.fingerprint:
        return None
    overrule = "`darkroom promote --force --reason …` makes it champion without the gate"
    try:
        with scratch_directory() as place:
            theirs = load_evaluated_model(client, contender(serving), place).answers
        pairing = pair_shared(theirs, read_predictions(predictions, dataset.classes))
    except (TrackingError, ValueError) as problem:
        found, what_to_do = f"cannot be compared with the new one ({problem})", overrule
    else:
        changes = changed_classes(theirs.classes, dataset.classes)
        found = f"{f'classes: {changes}; ' if changes else ''}{pairing.found}"
        needed = least_images(config.gate.alpha)
        what_to_do = "`darkroom promote` compares the two on these, `darkroom compare` shows both"
        if len(pairing.rows) < needed:
            found, what_to_do = f"{found}, fewer than the {needed} that the gate needs", overrule
    return (
        f"version {serving.version} stays champion, a model of other data: {found}; {what_to_do}, `darkroom data-diff` "
        "shows what changed"
    )


def other_name_notice(config: Config, client: MlflowClient, dataset: DatasetCard) -> str | None:
    """A line if models of ``dataset`` have another name in the registry, as after a move of a folder, else None.

    Raises MlflowException if the store does not answer.
    """
    name = config.registered_model
    if config.tracking.registered_model:  # not named after the folder
        return None
    same = client.search_model_versions(f"tags.`{FINGERPRINT_TAG}` = '{dataset.fingerprint}'")
    other = min({version.name for version in same} - {name}, default=None)
    return other and (
        f"{other} has models of the same images, with which {name} is not compared; set tracking.registered_model to "
        f"{other} if the folder has only another name now"
    )
