"""The command line: `darkroom <command>`."""

import errno
import importlib
import json
import os
import shutil
import sys
import traceback
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom import __version__
from darkroom.config import Config, load
from darkroom.errors import DarkroomError, SearchError
from darkroom.registry_cli import app as registry_app
from darkroom.using_cli import app as using_app
from darkroom.utils import signals
from darkroom.utils.console import error, output
from darkroom.utils.memory import killed_worker, remedy, shortage
from darkroom.workspace import Workspace

app = typer.Typer(
    help="Darkroom takes labelled images to a classifier in production. Settings lie in params.yaml.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
recipe_app = typer.Typer(help="Complete settings of known experiments, to start from.", no_args_is_help=True)
app.add_typer(recipe_app, name="recipe", rich_help_panel="Settings")
app.add_typer(registry_app)
app.add_typer(using_app)
STAGE = "Stages (dvc repro runs them in order)"
LOOK = "Looking"
FULL_DISK_BYTES = 1 << 20
# What the doctor finds is no error of the command.
WRONG = 3
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


def _run_stage(name: str, *arguments: str) -> None:
    workspace = Workspace()
    config = load(workspace.params)
    workspace.check_places()
    # Imported only now: each stage brings in just the libraries it uses, and a wrong setting none.
    importlib.import_module(f"darkroom.stages.{name}").run(config, workspace, *arguments)


@app.command(rich_help_panel=STAGE)
def download() -> None:
    """Bring the dataset's files to data/raw, checksums verified."""
    _run_stage("download")


@app.command(rich_help_panel=STAGE)
def preprocess() -> None:
    """Decode, split and cache the images; report on their quality."""
    _run_stage("preprocess")


@app.command(rich_help_panel=STAGE)
def search(
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the latest study, or say why not.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin a new study; the old one is kept.")] = False,
) -> None:
    """Search hyperparameters; a search that was interrupted goes on."""
    if resume and fresh:
        raise SearchError("--resume goes on with a study and --fresh begins a new one; give one of them")
    _run_stage("search", "resume" if resume else "fresh" if fresh else "matching")


@app.command(rich_help_panel=STAGE)
def train() -> None:
    """Train the final model; a training that was interrupted goes on."""
    _run_stage("train")


@app.command(rich_help_panel=STAGE)
def evaluate() -> None:
    """Measure the model on the test split."""
    _run_stage("evaluate")


@app.command(rich_help_panel=STAGE)
def register() -> None:
    """Register the evaluated model in the working tree, such as one that `dvc pull` brought, as challenger."""
    _run_stage("register")


@recipe_app.command("list")
def list_recipes() -> None:
    """Show every recipe: its dataset, its model, and what it was measured to reach."""
    from darkroom.recipes import read_recipes

    table = Table("recipe", "dataset", "model", "accuracy, %", "n", "s", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[3:]:
        column.justify = "right"
    recipes = read_recipes(Workspace())
    for name, recipe in recipes.items():
        config, measured = recipe.config, recipe.measured
        figures = ["not measured", "", ""]
        if measured:
            figures = [measured.percent(), str(len(measured.runs)), f"{measured.train_seconds:,.0f}"]
        table.add_row(name, config.dataset.name, config.model.name, *figures)
    output.print(table)
    devices = dict.fromkeys(recipe.measured.device for recipe in recipes.values() if recipe.measured)
    if devices:
        output.print(f"Mean and spread over n seeds on the test split, seconds of training: on {'; '.join(devices)}.")


@recipe_app.command("show")
def show_recipe(name: Annotated[str, typer.Argument(help="A name from `darkroom recipe list`.")]) -> None:
    """Print a recipe's settings."""
    from darkroom.recipes import find

    typer.echo(find(Workspace(), name).path.read_text(encoding="utf-8"), nl=False)


@recipe_app.command("use")
def use_recipe(
    name: Annotated[str, typer.Argument(help="A name from `darkroom recipe list`.")],
    force: Annotated[bool, typer.Option("--force", help="Write over edits that are saved nowhere else.")] = False,
) -> None:
    """Make a recipe params.yaml; `dvc repro` then runs it."""
    from darkroom.recipes import use

    workspace = Workspace()
    recipe = use(workspace, name, force=force)
    output.print(f"{workspace.params} is now the recipe {recipe.name}: {recipe.config.recipe.about}. Run `dvc repro`.")


@app.command(rich_help_panel="Settings")
def lr_find(
    steps: Annotated[int, typer.Option(min=10, max=100_000, help="Optimizer steps to try.")] = 200,
) -> None:
    """Try rising learning rates on the preprocessed data, draw the loss, and suggest a train.lr."""
    workspace = Workspace()
    config = load(workspace.params)

    from darkroom.lr_find import run

    run(config, workspace, steps)


@app.command(rich_help_panel=LOOK)
def results(
    as_json: Annotated[bool, typer.Option("--json", help="Print them, and the version, as JSON.")] = False,
) -> None:
    """Show the figures of the model in the working tree, as which version it is registered, and where to look next."""
    workspace = Workspace()
    config = load(workspace.params)

    from darkroom.results import show

    show(config, workspace, as_json=as_json)


@app.command(rich_help_panel=LOOK)
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be repaired without loss.")] = False,
) -> None:
    """Check that files, DVC, the MLflow store and the registry agree; exit code 3 if something is wrong."""
    workspace = Workspace()
    config = load(workspace.params)

    from darkroom.doctor.command import run

    if not run(config, workspace, fix=fix):
        raise typer.Exit(WRONG)


@app.command(rich_help_panel=LOOK)
def trials(
    as_json: Annotated[bool, typer.Option("--json", help="Print the study and its trials as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a line for each trial, separated by commas.")] = False,
) -> None:
    """Show the trials of the latest search, also while it runs."""
    if as_json and as_csv:
        raise SearchError("--json and --csv are two forms of the same; give one of them")
    workspace = Workspace()
    config = load(workspace.params)

    from darkroom.search import table
    from darkroom.search.readonly import latest_study

    study = latest_study(config, workspace.study_journal)
    if as_json:
        typer.echo(json.dumps(table.as_json(study), ensure_ascii=False, indent=2))
    elif as_csv:
        table.write_csv(study, sys.stdout)
    else:
        table.show(study, output)


@app.command(rich_help_panel=LOOK)
def dashboard(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Where it listens, on 127.0.0.1.")] = 8080,
) -> None:
    """Open Optuna's own page on the studies, until Ctrl-C."""
    workspace = Workspace()
    config = load(workspace.params)

    from darkroom.search.dashboard import serve

    serve(config, workspace.study_journal, port)


@app.command(rich_help_panel=LOOK)
def datasets(
    inspect: Annotated[
        Path | None,
        typer.Option("--inspect", metavar="PATH", help="Tell how this directory, zip or tar would be read instead."),
    ] = None,
) -> None:
    """List the datasets that dataset.name can be set to, or tell how your own images would be read."""
    if inspect is not None:
        workspace = Workspace()
        config = load(workspace.params) if workspace.params.exists() else Config()

        from darkroom.inspection import show

        show(inspect.expanduser(), config)
        return

    from darkroom.datasets.catalog import CATALOG

    table = Table("dataset.name", "what it is")
    for name, source in CATALOG.items():
        table.add_row(name, source.about)
    output.print(table)


@app.command(rich_help_panel=LOOK)
def models() -> None:
    """List the architectures that model.name can be set to, and the registered versions."""
    from darkroom.models.registry import architectures

    table = Table("model.name", "what it is", "its settings", title="Architectures", title_justify="left")
    for architecture in architectures().values():
        settings = ", ".join(f"{key} {json.dumps(value)}" for key, value in architecture.defaults.items())
        table.add_row(architecture.name, architecture.about, settings)
    output.print(table)
    workspace = Workspace()
    config = load(workspace.params)

    from darkroom.promotion.listing import show_versions

    show_versions(config, workspace, output)


def main() -> None:
    """Run the command line; what a user can mend ends in one line each and exit code 2."""
    # The project reports to nobody, and loads no model that could run code.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reports on Linux too; read as it is imported
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # On a server it would print two lines each time a run ends.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # MLflow's own seven retries of two minutes keep a user waiting for a server that is away, and what is asked again
    # after no answer came is done twice by one that is only slow. The thread that tells it of runs tries again itself.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    if "OMP_WAIT_POLICY" not in os.environ:
        # A thread that waits for another by spinning takes the core that the other needs: beside other work
        # training came to a stand. So long is enough where it is alone, for small networks too (measured on two
        # cores). Read by the OpenMP library as torch loads it.
        os.environ.setdefault("GOMP_SPINCOUNT", "4000")
    signals.install()
    try:
        app()
    except Exception as problem:
        known = _explain(problem)
        if known is None:
            raise
        if _debug:
            traceback.print_exc()
        error(known)
        sys.exit(DarkroomError.exit_code)


def _explain_store(problem: Exception) -> str:
    from darkroom.tracking.database import reason_of, unusable
    from darkroom.tracking.tracking_uri import sqlite_file, tracking_uri

    address = tracking_uri()
    if (reason := reason_of(problem)) and sqlite_file(address):
        return str(unusable(address, reason))
    return f"MLflow's store failed ({str(problem).partition(chr(10))[0]}); mend it and run the command again"


def _explain(problem: Exception) -> list[str] | None:
    """What to tell the user in lines, or None for a bug of ours, whose traceback belongs in a report."""
    if isinstance(problem, DarkroomError):
        return problem.lines
    line = _explain_machine(problem)
    return None if line is None else [line]


def _explain_machine(problem: Exception) -> str | None:
    match problem:
        case _ if said := shortage(problem):
            return f"{said}; {remedy(_command)}"
        case BrokenProcessPool():
            return f"{killed_worker()}; {remedy(_command)}"
        # Libraries report a full disk in their own ways; the disk itself tells it best.
        case _ if shutil.disk_usage(Path.cwd()).free < FULL_DISK_BYTES or getattr(problem, "errno", 0) == errno.ENOSPC:
            return f"disk full ({str(problem).partition(chr(10))[0]}); free some space and run the command again"
        case FileNotFoundError(filename=None) if "temporary directory" in str(problem):
            return f"{problem.strerror}; free some space there, or set TMPDIR to a directory that can be written to"
        case OSError(filename=str(name), strerror=str(reason)):
            return f"{name}: {reason.lower()}"
        case _ if type(problem).__module__.partition(".")[0] in {"mlflow", "sqlalchemy"}:
            return _explain_store(problem)
        case _:
            return None
