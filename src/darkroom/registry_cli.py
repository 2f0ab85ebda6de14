"""The commands about models in the registry: `darkroom compare`, `promote` and so on."""

import sqlite3
from typing import Annotated

import typer

from darkroom.config import load
from darkroom.errors import TrackingError, counted
from darkroom.utils.console import messages, warn
from darkroom.workspace import Workspace

app = typer.Typer()
REGISTRY = "Models in the registry"
# What the gate, or a reproduction, has to say is no error: the command did its work.
REFUSED = 3
Reference = typer.Argument(
    help="A version, an alias, the id of a run; here: the model in the working tree.", show_default=True
)
Dataset = typer.Argument(
    help="That of a version, an alias or the id of a run; here: what is preprocessed here.", show_default=True
)


@app.command(rich_help_panel=REGISTRY)
def compare(
    a: Annotated[str, Reference] = "champion",
    b: Annotated[str, Reference] = "challenger",
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare two models on the same test images: is the second one better than the first?"""
    workspace = Workspace()
    config = load(workspace.params)

    from darkroom.compare import run

    run(config, workspace, a, b, as_json=as_json)


@app.command(rich_help_panel=REGISTRY)
def data_diff(
    a: Annotated[str, Dataset] = "champion",
    b: Annotated[str, Dataset] = "here",
    as_json: Annotated[bool, typer.Option("--json", help="Print the differences as JSON.")] = False,
) -> None:
    """Show which images were added, removed, relabelled or moved between splits from the data of A to those of B."""
    workspace = Workspace()
    config = load(workspace.params)

    from darkroom.data_diff import run

    run(config, workspace, a, b, as_json=as_json)


@app.command(rich_help_panel=REGISTRY)
def promote(
    version: Annotated[str, Reference] = "challenger",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Run the gate, change and record nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Promote even what the gate refuses; needs --reason.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why, for the history.")] = None,
) -> None:
    """Make a version champion if it passes the gate; exit code 3 if it does not."""
    if force and not (reason or "").strip():
        raise TrackingError("--force needs --reason: the history says why the gate was overruled")
    workspace = Workspace()
    config = load(workspace.params)

    from darkroom.promotion.promote import run

    if not run(config, workspace, version, dry_run=dry_run, force=force, reason=reason or ""):
        raise typer.Exit(REFUSED)


@app.command(rich_help_panel=REGISTRY)
def rollback(reason: Annotated[str, typer.Option(help="Why, for the history.")] = "") -> None:
    """Make the previous champion champion again."""
    workspace = Workspace()
    config = load(workspace.params)

    from darkroom.promotion.promote import roll_back

    roll_back(config, workspace, reason)


@app.command(rich_help_panel=REGISTRY)
def history(as_json: Annotated[bool, typer.Option("--json", help="Print every entry as JSON.")] = False) -> None:
    """Show every promotion, refusal and rollback: when, who, from what to what, and why."""
    workspace = Workspace()
    config = load(workspace.params)

    from darkroom.promotion.history_table import show_history

    show_history(config, workspace, as_json=as_json)


@app.command(rich_help_panel=REGISTRY)
def reproduce(run_id: Annotated[str, typer.Argument(metavar="RUN", help="The id of a run of a training.")]) -> None:
    """Train a run again with its settings, code and data, and say whether the same came out; exit code 3 if not."""
    workspace = Workspace()
    config = load(workspace.params)

    from darkroom.reproduce import run

    if not run(config, workspace, run_id):
        raise typer.Exit(REFUSED)


@app.command(rich_help_panel=REGISTRY)
def relocate() -> None:
    """Let the MLflow store look for its files beside itself, after the project was moved or copied."""
    from darkroom.tracking.database import reason_of, unusable
    from darkroom.tracking.relocation import ARTIFACTS, artifact_root
    from darkroom.tracking.relocation import relocate as run
    from darkroom.tracking.tracking_uri import need_store, shown, sqlite_file, tracking_uri

    need_store(Workspace())
    address = tracking_uri()
    path = sqlite_file(address)
    if path is None:
        raise TrackingError(f"MLflow store {shown(address)}: only one in an SQLite file is moved with a project")
    try:
        done = run(path)
    except sqlite3.Error as problem:
        raise unusable(address, reason_of(problem) or str(problem)) from None
    if not done.places:
        messages.print(f"relocate: nothing to change, {path} has its files beside it")
        return
    messages.print(
        f"relocate: {path} now has {counted(done.places, 'place')} in {artifact_root(path)} that it had in "
        f"{', '.join(map(str, done.before))}"
    )
    if done.models_without_files:
        warn(
            f"{counted(done.models_without_files, 'model')} of the store had no files in either; bring {ARTIFACTS} "
            "from where the store was, or `darkroom register` registers the model in the working tree again"
        )
