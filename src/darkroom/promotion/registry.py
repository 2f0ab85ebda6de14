"""MLflow's model registry: its versions, and how a reference is resolved to one."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion as ModelVersion
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from darkroom.errors import TrackingError
from darkroom.promotion.description import updated
from darkroom.tracking.environment import user
from darkroom.tracking.runs import PREDICTIONS_TAG, WEIGHTS_TAG
from darkroom.tracking.store import newest_model
from darkroom.tracking.tracking_uri import register_hint
from darkroom.workspace import Workspace

LOGGED_MODEL = "models:/"
# Below a logged model: what MLflow loads. The files beside it are MLflow's own descriptions.
MODEL_FILE = "data/model.pt2"
# Below a logged model, as below its run: a copy, as a run can be deleted while its model serves.
EVALUATION = "evaluate"
CHALLENGER = "challenger"
CHAMPION = "champion"
PREVIOUS = "previous"
# What the name of a registered model's history ends with.
HISTORY = "-history"
VERDICT_TAG = "gate.verdict"
REGISTERED_BY_TAG = "darkroom.registered_by"
# MLflow's error codes for a name, a version or an alias that does not exist.
UNKNOWN = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
# MLflow's error code for the later of two processes that create the same tag or alias at once.
BEATEN = "BAD_REQUEST"
RUN_ID = re.compile(r"[0-9a-f]{32}")
# models:/name/3, name/3 and name@alias, as MLflow writes them; names hold neither of the signs.
NAMED = re.compile(r"(?:models:/)?(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))")


@dataclass(frozen=True)
class Registered:
    """A version of a registered model; ``is_new`` if it was not there before, ``aliases`` as they are now."""

    name: str
    version: str
    aliases: tuple[str, ...]
    is_new: bool


@dataclass(frozen=True)
class Contender:
    """A model that can be compared with another one: a version in the registry, or a run that made a model.

    ``uri`` is where MLflow loads it from, ``model_id`` the model that its run has logged; ``tags`` hold the fingerprint
    of its data and the digests of its files.
    """

    run_id: str
    uri: str
    tags: Mapping[str, str]
    version: str | None = None
    aliases: tuple[str, ...] = ()
    model_id: str = ""
    description: str = ""

    def __str__(self) -> str:
        return f"version {self.version}" if self.version else f"run {self.run_id}"


def register(
    client: MlflowClient,
    name: str,
    *,
    run_id: str,
    model_uri: str,
    digests: Mapping[str, str],
    metrics: Mapping[str, float],
    result: str,
) -> Registered:
    """Make the model a version of ``name`` and its challenger.

    ``digests`` are the tags with the digests of its weights, data, predictions and registered file; a model that is
    already registered from the same place keeps its version, with the digests, ``metrics`` and ``result`` of now; the
    last is for its description.
    """
    make_registered_model(client, name)
    known = with_weights(client, name, digests[WEIGHTS_TAG])
    version = next((each for each in known if each.source == model_uri), None)
    is_new = version is None
    # A server takes a logged model's address only with the id that it holds.
    model_id = model_uri.removeprefix(LOGGED_MODEL) if model_uri.startswith(LOGGED_MODEL) else None
    tags = {**digests, **{key: f"{value:.6g}" for key, value in metrics.items()}}
    if version is None:
        by = {REGISTERED_BY_TAG: user()}
        version = client.create_model_version(name, model_uri, run_id, tags=tags | by, model_id=model_id)
    else:
        # Each is a request of its own.
        set_tags(client, name, version.version, dict(tags.items() - version.tags.items()))
    client.update_model_version(name, version.version, updated(version.description, result=result))
    if model_id:
        _name_version(client, model_id, name, version.version)
    _again_if_beaten(client.set_registered_model_alias, name, CHALLENGER, version.version)
    current = client.get_model_version(name, version.version)
    return Registered(name, str(version.version), tuple(sorted(current.aliases)), is_new)


def _name_version(client: MlflowClient, model_id: str, name: str, version: str) -> None:
    """Show the version on the page of the logged model. A server does so itself, a database does not."""
    known = json.loads(client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    own = {"name": name, "version": str(version)}
    if own not in [{**each, "version": str(each["version"])} for each in known]:
        client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps([*known, own])})


def set_tags(client: MlflowClient, name: str, version: str, tags: Mapping[str, str]) -> None:
    """Set tags of a version; another process may set the same tags at the same time."""
    for key, value in tags.items():
        _again_if_beaten(client.set_model_version_tag, name, version, key, value)


def _again_if_beaten(call: Callable[..., None], *arguments: str) -> None:
    """Retry once: of two processes that create the same tag or alias at once, MLflow refuses the later one."""
    try:
        call(*arguments)
    except MlflowException as problem:
        if problem.error_code != BEATEN:
            raise
        call(*arguments)


def make_registered_model(client: MlflowClient, name: str, description: str | None = None) -> None:
    """Create the registered model ``name``, unless it exists."""
    try:
        client.create_registered_model(name, description=description)
    except MlflowException as problem:
        if problem.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """All versions of ``name``, the newest first; none if it is not registered. Aliases are filled in."""
    found = client.search_model_versions(by_name(name))
    return [client.get_model_version(name, each.version) for each in sorted(found, key=lambda v: -int(v.version))]


def with_weights(client: MlflowClient, name: str, weights_sha256: str) -> list[ModelVersion]:
    """The versions of ``name`` whose weights' file has this SHA-256, the oldest first. Aliases are not filled in."""
    found = client.search_model_versions(f"{by_name(name)} AND tags.`{WEIGHTS_TAG}` = '{weights_sha256}'")
    return sorted(found, key=lambda version: int(version.version))


def champion(client: MlflowClient, name: str) -> ModelVersion:
    """The champion. Raises TrackingError if there is none."""
    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as problem:
        if problem.error_code in UNKNOWN:
            if was_deleted(client, name):
                raise TrackingError(about_deleted(name)) from None
            raise TrackingError(
                f"registered model {name!r} has no champion; {register_hint(Workspace())}, "
                "`darkroom promote` makes it champion"
            ) from None
        raise


def was_deleted(client: MlflowClient, name: str) -> bool:
    """Whether the registered model ``name`` is no longer there, while its history is."""
    return registered_model(client, name) is None and registered_model(client, f"{name}{HISTORY}") is not None


def registered_model(client: MlflowClient, name: str) -> RegisteredModel | None:
    """A registered model, or None if there is none."""
    try:
        return client.get_registered_model(name)
    except MlflowException as problem:
        if problem.error_code not in UNKNOWN:
            raise
        return None


def about_deleted(name: str) -> str:
    return (
        f"registered model {name!r} was deleted, while its history is still there (`darkroom history` shows it); "
        f"{register_hint(Workspace())} as version 1"
    )


def find(client: MlflowClient, name: str, reference: str) -> Contender:
    """The model of ``reference``: a version or an alias of ``name``, or the id of a run.

    Raises TrackingError if there is none, or if it is another registered model's.
    """
    if RUN_ID.fullmatch(reference):
        return _run(client, reference)
    if named := NAMED.fullmatch(reference):
        if named["name"] != name:
            raise TrackingError(
                f"{reference}: of the registered model {named['name']}, but params.yaml names {name}; "
                "models of one dataset are compared with each other only"
            )
        reference = named["version"] or named["alias"]
    try:
        if reference.isdecimal():
            found = client.get_model_version(name, reference)
        else:
            found = client.get_model_version_by_alias(name, reference)
    except MlflowException as problem:
        if problem.error_code not in UNKNOWN:
            raise
        raise TrackingError(f"{reference}: {_what_there_is(client, name)}") from None
    return contender(found)


def contender(version: ModelVersion) -> Contender:
    """A version as one that can be compared."""
    return Contender(
        run_id=version.run_id or "",
        uri=f"{LOGGED_MODEL}{version.name}/{version.version}",
        tags=version.tags,
        version=str(version.version),
        aliases=tuple(sorted(version.aliases)),
        model_id=str(version.source).removeprefix(LOGGED_MODEL),
        description=version.description or "",
    )


def existing(client: MlflowClient, name: str, version: str) -> ModelVersion | None:
    """A version, or None if there is none or it was deleted."""
    try:
        return client.get_model_version(name, version)
    except MlflowException as problem:
        if problem.error_code not in UNKNOWN:
            raise
        return None


def run_of(client: MlflowClient, run_id: str) -> Run:
    """The run of this id. Raises TrackingError if the store does not hold it."""
    try:
        return client.get_run(run_id)
    except MlflowException as problem:
        if problem.error_code not in UNKNOWN:
            raise
        raise TrackingError(
            f"run {run_id}: not in the MLflow store; `make ui` lists those that are, "
            "MLFLOW_TRACKING_URI selects the store"
        ) from None


def _run(client: MlflowClient, run_id: str) -> Contender:
    run = run_of(client, run_id)
    uri = newest_model(client, run)
    if not uri or PREDICTIONS_TAG not in run.data.tags:
        raise TrackingError(f"run {run_id}: made no model that was evaluated; name the run of a training")
    return Contender(run_id, uri, run.data.tags, model_id=uri.removeprefix(LOGGED_MODEL))


def _what_there_is(client: MlflowClient, name: str) -> str:
    found = versions(client, name)
    if not found and was_deleted(client, name):
        return about_deleted(name)
    if not found:
        return f"the registry holds no versions of {name}; {register_hint(Workspace())}"
    known = [str(each.version) for each in found] + sorted({alias for each in found for alias in each.aliases})
    return f"{name} has no such version or alias; choose from: {', '.join(known)}, or give the id of a run"


def by_name(name: str) -> str:
    """MLflow's filter for a name; quotes are escaped, as in o'hare."""
    quote = '"' if "'" in name else "'"
    return f"name = {quote}{name}{quote}"
