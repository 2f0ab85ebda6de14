"""`darkroom`: all commands, the environment that they run in, and how they end."""

import os
import sys
import traceback
from typing import Annotated

import typer

from darkroom import __version__
from darkroom.cli import model, overview, registry, settings, stages
from darkroom.cli.problems import explain
from darkroom.errors import DarkroomError
from darkroom.utils import signals
from darkroom.utils.console import error, output

app = typer.Typer(
    help="Darkroom takes labeled images to a classifier in production. The settings are in params.yaml.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for panel in (stages, settings, overview, registry, model):
    app.add_typer(panel.app)
_debug = False
_command: str | None = None


@app.callback(invoke_without_command=True)
def _global_options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    global _debug, _command
    _debug, _command = debug, context.invoked_subcommand
    if version:
        output.print(f"darkroom {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; what a user can fix ends in one line each and exit code 2."""
    set_environment()
    signals.install()
    try:
        app()
    except Exception as problem:
        known = explain(problem, _command)
        if known is None:
            raise
        if _debug:
            traceback.print_exc()
        error(known)
        sys.exit(DarkroomError.exit_code)


def set_environment() -> None:
    """Set what libraries read as they are imported; what the user has set stays."""
    # The project reports to nobody, and loads no model that could run code.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reports on Linux too; read as it is imported
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # On a server it would print two lines each time a run ends.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # With MLflow's seven retries of two minutes each, a user would wait long for a server that is down, and a slow
    # server would carry out a repeated request twice. The thread that sends runs to the store retries by itself.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    if "OMP_WAIT_POLICY" not in os.environ:
        # A thread that waits for another by spinning takes the core that the other needs: beside other work
        # training came to a stand. So long is enough where it is alone, for small networks too (measured on two
        # cores). Read by the OpenMP library as torch loads it.
        os.environ.setdefault("GOMP_SPINCOUNT", "4000")
