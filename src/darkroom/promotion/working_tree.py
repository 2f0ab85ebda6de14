"""Find the model in the working tree in the registry of this store.

DVC restores files from its cache or another machine without notifying the registry. So a file never says whether a
model is registered: its weights are looked up in the registry, by their digest.
"""

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from darkroom.errors import ModelError, TrackingError
from darkroom.models.card import MADE_BY, ModelCard
from darkroom.promotion.registry import CHALLENGER, Contender, contender, find, with_weights
from darkroom.tracking.runs import WEIGHTS_TAG
from darkroom.tracking.tracking_uri import shown, tracking_uri
from darkroom.utils.console import warn
from darkroom.utils.files import need_output, sha256
from darkroom.workspace import Workspace

HERE = "here"
REGISTER = "`darkroom register` registers it"


def working_tree_digest(workspace: Workspace) -> str:
    """The SHA-256 of the weights in the working tree. Raises ModelError if there are none, or not those of the card."""
    card = ModelCard.read(workspace.model_card)
    weights = need_output(workspace.weights, error=ModelError, made_by=MADE_BY)
    if (found := sha256(weights)) != card.weights_sha256:
        raise ModelError(
            f"{workspace.weights}: not the weights that {workspace.model_card} describes, or damaged; "
            f"run `{MADE_BY}` again"
        )
    return found


def version_of(client: MlflowClient, name: str, weights_sha256: str) -> ModelVersion | None:
    """The version with these weights, with its aliases: of several, the one with an alias, else the newest."""
    found = with_weights(client, name, weights_sha256)
    filled = [client.get_model_version(name, each.version) for each in reversed(found)]
    return next((each for each in filled if each.aliases), filled[0] if filled else None)


def resolve(client: MlflowClient, name: str, reference: str, workspace: Workspace) -> Contender:
    """The model of ``reference``: ``here`` is the one in the working tree; see ``find`` for all others.

    Raises ModelError if there is none here, and TrackingError if it is not registered.
    """
    if reference != HERE:
        return find(client, name, reference)
    version = version_of(client, name, working_tree_digest(workspace))
    if version is None:
        raise TrackingError(
            f"{workspace.weights}: not registered as {name} in this store ({shown(tracking_uri())}); {REGISTER}"
        )
    return contender(version)


def warn_of_another(client: MlflowClient, name: str, challenger: Contender, workspace: Workspace) -> None:
    """Warn if the model in the working tree is another one: another training may have registered the challenger."""
    if CHALLENGER not in challenger.aliases:
        return
    try:
        weights = working_tree_digest(workspace)
    except ModelError:
        return  # there is none, or not to its end
    if challenger.tags.get(WEIGHTS_TAG) != weights:
        here = version_of(client, name, weights)
        known = f"version {here.version}: `darkroom promote here`" if here else f"not registered: {REGISTER}"
        warn(f"{name} version {challenger.version} is not the model in the working tree, which is {known}")
