"""`darkroom register`: the model that lies in the work tree, brought to the registry of this machine's store."""

from darkroom.config import Config
from darkroom.console import messages
from darkroom.promotion.promote import register_and_crown
from darkroom.tracking.tracker import connect
from darkroom.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    """Register models/ and reports/evaluate, which stay as they are. Raises ModelError or TrackingError."""
    registered = register_and_crown(config, workspace, connect(config.tracking, workspace.spools))
    state = "registered as" if registered.is_new else "already registered as"
    messages.print(
        f"register: {workspace.weights}, {state} {registered.name} version {registered.version} "
        f"({', '.join(registered.aliases)})"
    )
