"""Registering the model that lies in the work tree, whoever trained it, in whichever store."""

import tempfile
from pathlib import Path

import numpy as np
from mlflow.artifacts import download_artifacts

from darkroom.config import Config
from darkroom.console import messages
from darkroom.data.batches import read_split
from darkroom.data.cache import CARD
from darkroom.errors import ModelError
from darkroom.evaluation.curves import read_history
from darkroom.evaluation.predictions import IDENTITY, PREDICTIONS, Identity
from darkroom.files import read_json, sha256
from darkroom.models.classifier import Classifier
from darkroom.models.files import ModelCard, load_classifier
from darkroom.promotion.registry import Registered, register
from darkroom.tracking.runs import (
    EXAMPLE_IMAGES,
    FINGERPRINT_TAG,
    MODEL_TAG,
    PREDICTIONS_TAG,
    RUN_TAG,
    WEIGHTS_TAG,
    epoch_metrics,
    log_training,
)
from darkroom.tracking.store import Store
from darkroom.workspace import Workspace

# Below a logged model: what MLflow loads. The files beside it are MLflow's own descriptions.
MODEL_FILE = "data/model.pt2"
METRICS = ("accuracy", "accuracy_low", "accuracy_high", "f1_macro", "log_loss", "calibration_error")


def register_work_tree(store: Store, config: Config, workspace: Workspace) -> Registered:
    """Register models/model.safetensors with what reports/evaluate says of it, as challenger.

    Its run is rebuilt from the files where the store lacks it. Raises ModelError if the files do not belong together,
    TrackingError or MlflowException from the store.
    """
    classifier, card = load_classifier(workspace.weights, workspace.model_card)
    report = workspace.report("evaluate")
    identity = _identity(report, card)
    summary = read_json(report / "metrics.json", error=ModelError, made_by="darkroom evaluate")
    run_id = _find_run(store, card) or _complete_run(store, workspace, classifier, card)
    uri = store.model_uri(run_id)
    with tempfile.TemporaryDirectory() as place:
        model_sha256 = sha256(Path(download_artifacts(uri, dst_path=place)) / MODEL_FILE)
    digests = {
        WEIGHTS_TAG: identity.weights_sha256,
        FINGERPRINT_TAG: identity.fingerprint,
        PREDICTIONS_TAG: identity.predictions_sha256,
        MODEL_TAG: model_sha256,
    }
    tracked = store.run(run_id)
    tracked.log_metrics({f"test/{key}": value for key, value in summary.items()})
    tracked.log_directory(report, "evaluate")
    tracked.log_tags(digests)
    return register(
        store.client,
        config.registered_model,
        run_id=run_id,
        model_uri=uri,
        digests=digests,
        metrics={f"test.{key}": summary[key] for key in METRICS},
    )


def _identity(report: Path, card: ModelCard) -> Identity:
    found = Identity(**read_json(report / IDENTITY, error=ModelError, made_by="darkroom evaluate"))
    if found.weights_sha256 != card.weights_sha256:
        raise ModelError(f"{report}: an evaluation of other weights than models/ holds; run `darkroom evaluate` again")
    if sha256(report / PREDICTIONS) != found.predictions_sha256:
        raise ModelError(f"{report / PREDICTIONS}: changed since it was written; run `darkroom evaluate` again")
    return found


def _find_run(store: Store, card: ModelCard) -> str | None:
    """The run that the model's file names, else one that was rebuilt for these weights, if it holds the model."""
    for tag, value in ((RUN_TAG, card.run_id), (WEIGHTS_TAG, card.weights_sha256)):
        run_id = store.find(tag, value)
        if run_id and store.model_uri(run_id):
            return run_id
    return None


def _complete_run(store: Store, workspace: Workspace, classifier: Classifier, card: ModelCard) -> str:
    """Tell the model's run all that the files know: this store does not hold it, or not to its end."""
    name = card.dataset_card.name
    report = workspace.report("train")
    summary = read_json(report / "metrics.json", error=ModelError, made_by="darkroom train")
    is_there = store.find(RUN_TAG, card.run_id) is not None
    lack = "has no model in this store yet; completed" if is_there else "is not in this store; rebuilt"
    messages.print(f"run {card.run_id} {lack} from the files")
    with store.start(f"{card.settings['model']['name']} on {name}", "train", key=card.run_id) as run:
        for epoch in read_history(report / "history.csv"):
            run.log_metrics(epoch_metrics(epoch), step=int(epoch["epoch"]))
        cost = {key: summary[f"tracking_{key}"] for key in ("seconds", "share")}
        log_training(run, card, cost, [workspace.report("preprocess"), report])
        store.log_model(run.key, classifier, card, _example(workspace, card))
    return store.id_of(run.key)


def _example(workspace: Workspace, card: ModelCard) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Images to show what the model takes: blank ones where only the model was brought here, not its data."""
    data = card.dataset_card
    directory = workspace.processed(data.name)
    if not (directory / CARD).exists():
        return np.zeros((EXAMPLE_IMAGES, *data.shape), np.uint8)
    return read_split(directory, data, "val").images[:EXAMPLE_IMAGES].numpy()
