"""Register the model in the working tree, wherever it was trained, in any store.

The network, which takes seconds to build, is built only where the store lacks the run of the model.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException

from darkroom.config import Config, parse
from darkroom.data.difference import LISTING
from darkroom.errors import ConfigError, ModelError
from darkroom.evaluation.reference import REFERENCE, Reference
from darkroom.evaluation.report import EVALUATE, INTERVALS, METRICS, read_identity, read_metrics
from darkroom.evaluation.robustness import ROBUSTNESS
from darkroom.models.card import MADE_BY, ModelCard, card_of
from darkroom.promotion.description import result, updated
from darkroom.promotion.registry import (
    EVALUATION,
    LOGGED_MODEL,
    MODEL_FILE,
    UNKNOWN,
    Registered,
    register,
    with_weights,
)
from darkroom.tracking.names import training_name
from darkroom.tracking.runs import (
    FINGERPRINT_TAG,
    MODEL_TAG,
    NOTE_TAG,
    PREDICTIONS_TAG,
    REFERENCE_TAG,
    ROBUSTNESS_TAG,
    RUN_TAG,
    WEIGHTS_TAG,
)
from darkroom.tracking.store import Store, does_not_answer
from darkroom.utils.console import warn
from darkroom.utils.files import need_output, sha256
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace


@dataclass(frozen=True)
class _StoredModel:
    """A model in the store: the run that made it, the URI that MLflow loads it from, and the SHA-256 of its file."""

    run_id: str
    uri: str
    model_sha256: str

    @property
    def model_id(self) -> str:
        return self.uri.removeprefix(LOGGED_MODEL)

    def log_reports(self, client: MlflowClient, workspace: Workspace) -> None:
        """Log the files that promoting and serving need to the model, so that deleting the run does not remove them."""
        client.log_model_artifacts(self.model_id, str(workspace.report("evaluate")), EVALUATION)
        if (listing := workspace.report("preprocess") / LISTING).is_file():
            client.log_model_artifact(self.model_id, str(listing), "preprocess")


def register_working_tree(store: Store, config: Config, workspace: Workspace) -> Registered:
    """Register models/model.safetensors with the results in reports/evaluate, as challenger.

    Its run is rebuilt from the files if the store lacks it; the files are not changed. Raises ModelError if the files
    are missing or do not belong together, TrackingError or MlflowException from the store.
    """
    card = _read_card(config, workspace)
    report = workspace.report("evaluate")
    identity, summary = read_identity(report, card), read_metrics(report)
    reference = need_output(report / REFERENCE, error=ModelError, made_by=EVALUATE)
    Reference.read(reference)
    name = config.registered_model
    registered = _of_version(store.client, name, card.weights_sha256)
    own = _of_run(store, card)
    if not (registered or own):
        own = _complete_run(store, workspace, card)
    digests = {
        WEIGHTS_TAG: identity.weights_sha256,
        FINGERPRINT_TAG: identity.fingerprint,
        PREDICTIONS_TAG: identity.predictions_sha256,
        REFERENCE_TAG: sha256(reference),
    }
    if (robustness := report / ROBUSTNESS).is_file():
        digests[ROBUSTNESS_TAG] = sha256(robustness)
    # A training that was repeated to the same weights has another run than their version.
    for held in filter(None, (registered, own)):
        held.log_reports(store.client, workspace)
        if not is_active(store.client, held.run_id):
            continue
        run = store.run(held.run_id)
        _log_result(store, held, card, summary)
        run.log_directory(report, EVALUATION)
        run.log_tags(digests | {MODEL_TAG: held.model_sha256})
    chosen = registered or own
    assert chosen, "a run is completed where there is none"
    return register(
        store.client,
        name,
        run_id=chosen.run_id,
        model_uri=chosen.uri,
        digests=digests | {MODEL_TAG: chosen.model_sha256},
        metrics={f"test.{key}": summary[key] for key in (*METRICS, *INTERVALS) if key in summary},
        result=result(summary, card, _training(store.client, chosen, card), store.experiment_id, chosen.run_id),
    )


def _log_result(store: Store, held: _StoredModel, card: ModelCard, summary: dict[str, Any]) -> None:
    """Log the metrics of the test split, and put them into the descriptions of the run and its model.

    A metric that is already logged is not logged again: MLflow's page of the model shows every time that it was.
    """
    run, found = store.run(held.run_id), store.client.get_run(held.run_id).data
    model = store.client.get_logged_model(held.model_id)
    known = {point.key: point.value for point in sorted(model.metrics or [], key=lambda point: point.timestamp)}
    changed = {key: value for key, value in summary.items() if known.get(f"test/{key}") != value}
    run.log_test(changed, card.dataset_card, held.model_id)
    text = result(summary, card, _training(store.client, held, card), store.experiment_id, held.run_id)
    run.log_tags({NOTE_TAG: updated(found.tags.get(NOTE_TAG), result=text)})
    store.client.set_logged_model_tags(model.model_id, {NOTE_TAG: updated(model.tags.get(NOTE_TAG), result=text)})


def _training(client: MlflowClient, held: _StoredModel, card: ModelCard) -> str:
    """The name of a model's run. Only where the store has lost the run it is made anew, for which torch is imported."""
    run = _find_run(client, held.run_id)
    return (run and run.info.run_name) or training_name(card.settings, card.dataset_card)


def _read_card(config: Config, workspace: Workspace) -> ModelCard:
    for path in (workspace.model_card, workspace.weights):
        need_output(path, error=ModelError, made_by=MADE_BY)
    card = card_of(workspace.weights, workspace.model_card)
    _check_card(card, workspace.model_card)
    data = card.dataset_card.name
    if data != config.dataset.name:
        raise ModelError(
            f"{workspace.weights}: a model of {data}, but params.yaml names {config.dataset.name}; "
            f"set dataset.name to {data}, or run `dvc repro`"
        )
    return card


def _check_card(card: ModelCard, path: Path) -> None:
    """Refuse a card without what the run and the version of its model are described by. Raises ModelError."""
    try:
        parse(card.settings, where="settings.")
    except ConfigError as problem:
        raise ModelError(f"{path}: damaged ({problem}); run `{MADE_BY}` again") from None
    needed = {"settings.train": {"epochs"}, "best_epoch": {"epoch", "val_accuracy", "val_loss"}}
    found = {"settings.train": card.settings.get("train", {}), "best_epoch": card.best_epoch}
    for where, keys in needed.items():
        if missing := sorted(keys - found[where].keys()):
            raise ModelError(f"{path}: damaged ({where}.{missing[0]}: missing); run `{MADE_BY}` again")


def _of_version(client: MlflowClient, name: str, weights_sha256: str) -> _StoredModel | None:
    """The first version of these weights that can still be loaded and compared, as it was registered."""
    for version in with_weights(client, name, weights_sha256):
        held = _held(version.run_id or "", version.source or "", version.tags.get(MODEL_TAG))
        if held:
            return held
        warn(
            f"{name} version {version.version} has the same weights, but its model was changed or deleted in the "
            "store: it no longer counts"
        )
    return None


def _of_run(store: Store, card: ModelCard) -> _StoredModel | None:
    """The model of the run in the model's card, else of a run that was rebuilt for these weights."""
    for tag, value in ((RUN_TAG, card.run_id), (WEIGHTS_TAG, card.weights_sha256)):
        run_id = store.find(tag, value)
        uri = store.model_uri(run_id) if run_id else ""
        if run_id and uri:
            run = store.client.get_run(run_id)
            is_of_these = run.data.tags.get(WEIGHTS_TAG) == card.weights_sha256
            if is_of_these and (held := _held(run_id, uri, run.data.tags.get(MODEL_TAG))):
                return held
    return None


def _held(run_id: str, uri: str, expected: str | None) -> _StoredModel | None:
    """The model at ``uri``, unless its file is missing or its SHA-256 is not the ``expected`` one, if given."""
    found = _model_sha256(uri)
    return _StoredModel(run_id, uri, found) if found and expected in (None, found) else None


def _model_sha256(uri: str) -> str | None:
    """None if the store has no such file. Raises MlflowException if it does not answer."""
    with scratch_directory() as place:
        try:
            return sha256(Path(download_artifacts(uri, dst_path=str(place))) / MODEL_FILE)
        except FileNotFoundError:
            return None
        except MlflowException as problem:
            if does_not_answer(problem):
                raise
            return None


def is_active(client: MlflowClient, run_id: str) -> bool:
    """Whether the store has the run and it is not deleted."""
    run = _find_run(client, run_id)
    return run is not None and bool(run.info.lifecycle_stage == LifecycleStage.ACTIVE)


def _find_run(client: MlflowClient, run_id: str) -> Run | None:
    try:
        return client.get_run(run_id)
    except MlflowException as problem:
        if problem.error_code not in UNKNOWN:
            raise
        return None


def _complete_run(store: Store, workspace: Workspace, card: ModelCard) -> _StoredModel:
    from darkroom.promotion.rebuild_run import rebuild_run

    run_id, uri = rebuild_run(store, workspace, card)
    digest = _model_sha256(uri)
    assert digest, "the model has just been logged"
    return _StoredModel(run_id, uri, digest)
