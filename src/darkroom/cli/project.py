"""The project that a command works on."""

from darkroom.config import Config, load
from darkroom.workspace import Workspace


def load_project() -> tuple[Config, Workspace]:
    """The settings of the project in the working directory, and its places. Raises ConfigError."""
    workspace = Workspace()
    return load(workspace.params), workspace
