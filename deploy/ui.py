"""MLflow's page on this machine, opened on the runs of the experiment that params.yaml names.

    python -m deploy.ui [--port 5000]

If MLFLOW_TRACKING_URI names a server, its own page is opened instead. Ctrl-C stops MLflow.
"""

import argparse
import os
import subprocess
import sys
import time
import webbrowser

import requests
from deploy.postgresql import HOST
from deploy.tracking_server import check_free

from darkroom.config import load
from darkroom.errors import DarkroomError, TrackingError
from darkroom.tracking.runs import MODEL_TRAINING
from darkroom.tracking.tracker import connect
from darkroom.tracking.tracking_uri import need_store, shown, tracking_uri
from darkroom.utils.console import error, messages
from darkroom.workspace import Workspace

# Seconds for MLflow to answer, on a slow machine.
PATIENCE = 180


def runs_page() -> str:
    """The path of the page with the runs, relative to MLflow's address.

    Raises ConfigError, and TrackingError if there is no store or it cannot be used.
    """
    workspace = Workspace()
    need_store(workspace)
    store = connect(load(workspace.params).tracking, workspace.spools)
    return f"#/experiments/{store.experiment_id}/runs{MODEL_TRAINING}"


def serve(store: str, port: int, page: str) -> None:
    """Show ``page`` of the store until MLflow ends. Raises TrackingError if it does not start."""
    address = f"http://{HOST}:{port}"
    # In the environment: other users of this machine can read the arguments of a process.
    environment = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # of MLflow's features for language models
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": store,
    }
    # One worker is enough for one person; each takes seconds to start.
    command = [sys.executable, "-m", "mlflow", "ui", f"--host={HOST}", f"--port={port}", "--workers=1"]
    process = subprocess.Popen(command, env=environment)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(address):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TrackingError(f"MLflow does not answer on {address}; what it has said above may say why")
            time.sleep(0.2)
        show(f"{address}/{page}")
        process.wait()
    finally:
        process.terminate()
        process.wait()


def show(address: str) -> None:
    """Print the address, and open it if there is a desktop. A text browser would take over this terminal."""
    messages.print(f"MLflow: {address}")
    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/health", timeout=5).ok
    except requests.RequestException:
        return False


def main() -> None:
    """Show the page until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=5000, help="of this machine's loopback (default: 5000)")
    port = parser.parse_args().port
    try:
        store, page = tracking_uri(), runs_page()
        if store.startswith(("http://", "https://")):
            show(f"{shown(store).rstrip('/')}/{page}")
            return
        check_free(port, "make ui PORT=…")
        serve(store, port, page)
    except DarkroomError as problem:
        error(problem.lines)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        messages.print("\nStopped.")


if __name__ == "__main__":
    main()
