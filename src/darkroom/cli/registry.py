"""The commands about models in the registry: `darkroom compare`, `promote` and so on."""

from pathlib import Path
from typing import Annotated

import typer

from darkroom.cli.project import load_project
from darkroom.errors import TrackingError
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
def models() -> None:
    """List the registered versions: their aliases, test accuracy, data, and what the gate found."""
    config, workspace = load_project()

    from darkroom.commands.models import run

    run(config, workspace)


@app.command(rich_help_panel=REGISTRY)
def compare(
    a: Annotated[str, Reference] = "champion",
    b: Annotated[str, Reference] = "challenger",
    live: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Compare instead what a server's champion and challenger answered."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="With --live: a CSV file with the columns digest and label.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare two models on the same test images: is the second one better than the first?"""
    if live is None and labels is not None:
        raise TrackingError("--labels: needs --live, the address of the server that was sent the pictures")
    if live is not None and (a, b) != ("champion", "challenger"):
        raise TrackingError("--live: compares the server's champion with its challenger; leave out the models")
    config, workspace = load_project()

    if live is not None:
        from darkroom.commands.compare_live import run as run_live

        run_live(config, live, labels, as_json=as_json)
        return

    from darkroom.commands.compare import run

    run(config, workspace, a, b, as_json=as_json)


@app.command(rich_help_panel=REGISTRY)
def data_diff(
    a: Annotated[str, Dataset] = "champion",
    b: Annotated[str, Dataset] = "here",
    as_json: Annotated[bool, typer.Option("--json", help="Print the differences as JSON.")] = False,
) -> None:
    """Show which images were added, removed, relabeled or moved between splits from the data of A to those of B."""
    config, workspace = load_project()

    from darkroom.commands.data_diff import run

    run(config, workspace, a, b, as_json=as_json)


@app.command(rich_help_panel=REGISTRY)
def promote(
    version: Annotated[str, Reference] = "challenger",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Run the gate, change and record nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Promote even what the gate refuses; needs --reason.")] = False,
    reason: Annotated[str | None, typer.Option(help="The reason, recorded in the history.")] = None,
) -> None:
    """Make a version champion if it passes the gate; exit code 3 if it does not."""
    if force and not (reason or "").strip():
        raise TrackingError("--force needs --reason: the history says why the gate was overruled")
    config, workspace = load_project()

    from darkroom.commands.promote import run

    if not run(config, workspace, version, dry_run=dry_run, force=force, reason=reason or ""):
        raise typer.Exit(REFUSED)


@app.command(rich_help_panel=REGISTRY)
def rollback(reason: Annotated[str, typer.Option(help="The reason, recorded in the history.")] = "") -> None:
    """Make the previous champion champion again."""
    config, workspace = load_project()

    from darkroom.commands.rollback import run

    run(config, workspace, reason)


@app.command(rich_help_panel=REGISTRY)
def history(as_json: Annotated[bool, typer.Option("--json", help="Print every entry as JSON.")] = False) -> None:
    """Show every promotion, refusal and rollback: when, who, from what to what, and why."""
    config, workspace = load_project()

    from darkroom.commands.history import run

    run(config, workspace, as_json=as_json)


@app.command(rich_help_panel=REGISTRY)
def reproduce(run_id: Annotated[str, typer.Argument(metavar="RUN", help="The id of a run of a training.")]) -> None:
    """Train a run again with its settings, code and data; exit code 3 if the result is not identical."""
    config, workspace = load_project()

    from darkroom.commands.reproduce import run

    if not run(config, workspace, run_id):
        raise typer.Exit(REFUSED)


@app.command(rich_help_panel=REGISTRY)
def relocate() -> None:
    """Update the paths in the MLflow store after the project was moved or copied."""
    from darkroom.commands.relocate import run

    run(Workspace())
