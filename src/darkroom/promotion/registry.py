"""Everything MLflow's model registry is asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from darkroom.errors import TrackingError
from darkroom.tracking.runs import FINGERPRINT_TAG, WEIGHTS_TAG

LOGGED_MODEL = "models:/"
CHALLENGER = "challenger"
CHAMPION = "champion"


@dataclass(frozen=True)
class Registered:
    """A version of a registered model; ``is_new`` if it was not there before, ``aliases`` as they are now."""

    name: str
    version: str
    aliases: tuple[str, ...]
    is_new: bool


def register(
    client: MlflowClient,
    name: str,
    *,
    run_id: str,
    model_uri: str,
    weights_sha256: str,
    fingerprint: str,
    metrics: Mapping[str, Any],
) -> Registered:
    """Make the model a version of ``name`` and its challenger; the first version also becomes champion.

    A model with the same weights that is already registered keeps its version.
    """
    try:
        client.create_registered_model(name)
    except MlflowException as problem:
        if problem.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = _same_weights(client, name, weights_sha256)
    is_new = version is None
    if version is None:
        tags = {WEIGHTS_TAG: weights_sha256, FINGERPRINT_TAG: fingerprint}
        # A server takes a logged model's address only with the id that it holds.
        model_id = model_uri.removeprefix(LOGGED_MODEL) if model_uri.startswith(LOGGED_MODEL) else None
        version = client.create_model_version(name, model_uri, run_id, tags=tags, model_id=model_id)
    for key, value in metrics.items():
        client.set_model_version_tag(name, version.version, key, f"{value:.6g}")
    client.set_registered_model_alias(name, CHALLENGER, version.version)
    if CHAMPION not in client.get_registered_model(name).aliases:
        client.set_registered_model_alias(name, CHAMPION, version.version)
    current = client.get_model_version(name, version.version)
    return Registered(name, str(version.version), tuple(sorted(current.aliases)), is_new)


def versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """All versions of ``name``, the newest first; none if it is not registered. Aliases are filled in."""
    found = client.search_model_versions(f"name = '{name}'")
    return [client.get_model_version(name, each.version) for each in sorted(found, key=lambda v: -int(v.version))]


def champion(client: MlflowClient, name: str) -> ModelVersion:
    """The version that serves. Raises TrackingError if there is none."""
    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as problem:
        if problem.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise TrackingError(
                f"registered model {name!r} has no champion; run `dvc repro` to train and register one"
            ) from None
        raise


def _same_weights(client: MlflowClient, name: str, weights_sha256: str) -> ModelVersion | None:
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get(WEIGHTS_TAG) == weights_sha256:
            return version
    return None
