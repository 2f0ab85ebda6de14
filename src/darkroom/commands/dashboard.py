"""Optuna Dashboard on the studies of the searches."""

from darkroom.config import Config
from darkroom.errors import SearchError
from darkroom.search.readonly import existing_storage
from darkroom.utils.console import messages
from darkroom.workspace import Workspace

HOST = "127.0.0.1"
EXTRA = "pip install --editable '.[dashboard]'"


def run(config: Config, workspace: Workspace, port: int) -> None:
    """Serve the page to this machine until the process is ended.

    Raises SearchError if there is no study, if the package is missing, or if the port is taken.
    """
    try:
        from optuna_dashboard import run_server
    except ImportError as problem:
        raise SearchError(f"Optuna Dashboard is not installed ({problem}); run `{EXTRA}`") from None
    storage = existing_storage(config, workspace.study_journal)
    messages.print(f"Optuna Dashboard on http://{HOST}:{port}, until Ctrl-C")
    try:
        run_server(storage, host=HOST, port=port)
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise SearchError(f"{HOST}:{port}: {reason}; choose another with `darkroom dashboard --port`") from None
