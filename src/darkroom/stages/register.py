"""Stage 6: register the model in the working tree in the store of this machine.

A separate stage without outputs: a model that DVC restores from its cache was registered in the store of that time. DVC
never restores a stage without outputs, so this stage registers a restored model here.
"""

from darkroom.config import Config
from darkroom.errors import ModelError
from darkroom.evaluation.predictions import PREDICTIONS
from darkroom.models.card import ModelCard
from darkroom.promotion.dataset_mismatch import mismatch_notice, other_name_notice
from darkroom.promotion.lineage import other_data
from darkroom.promotion.promote import promote_first
from darkroom.promotion.registration import register_working_tree
from darkroom.tracking.tracker import connect
from darkroom.utils.console import messages, warn
from darkroom.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    """Register models/ and reports/evaluate, which stay as they are. Raises ModelError or TrackingError."""
    if line := other_data(config, workspace):
        raise ModelError(line)  # it would be registered under the name of the other data
    store = connect(config.tracking, workspace.spools)
    registered = register_working_tree(store, config, workspace)
    promote_first(config, workspace, store, registered.version)
    aliases = store.client.get_model_version(registered.name, registered.version).aliases
    state = "registered as" if registered.is_new else "already registered as"
    messages.print(
        f"register: {workspace.weights}, {state} {registered.name} version {registered.version} "
        f"({', '.join(sorted(aliases))})"
    )
    dataset = ModelCard.read(workspace.model_card).dataset_card
    is_first = registered.is_new and registered.version == "1"
    if is_first and (line := other_name_notice(config, store.client, dataset)):
        warn(line)
    if line := mismatch_notice(config, store.client, dataset, workspace.report("evaluate") / PREDICTIONS):
        warn(line)
