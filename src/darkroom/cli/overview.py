"""The read-only commands: results, trials, checks, and the values that settings can take."""

from typing import Annotated

import typer

from darkroom.cli.project import load_project
from darkroom.errors import DataError, SearchError

app = typer.Typer()
OVERVIEW = "Overview"
# What the doctor finds is no error of the command.
WRONG = 3


@app.command(rich_help_panel=OVERVIEW)
def results(
    as_json: Annotated[bool, typer.Option("--json", help="Print them, and the version, as JSON.")] = False,
) -> None:
    """Show the metrics of the model in the working tree, its registered version, and where to look next."""
    config, workspace = load_project()

    from darkroom.commands.results import run

    run(config, workspace, as_json=as_json)


@app.command(rich_help_panel=OVERVIEW)
def audit(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    effect: Annotated[
        bool, typer.Option("--effect", help="Train with and without data/fixes.csv, and compare both.")
    ] = False,
) -> None:
    """Find wrong labels and odd images by models that have not seen them, and make a page to decide on each."""
    if as_json and effect:
        raise DataError("--json prints the findings and --effect compares trainings; give one of them")
    config, workspace = load_project()

    from darkroom.commands.audit import run, run_effect

    if effect:
        run_effect(config, workspace)
    else:
        run(config, workspace, as_json=as_json)


@app.command(rich_help_panel=OVERVIEW)
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be repaired without loss.")] = False,
) -> None:
    """Check that files, DVC, the MLflow store and the registry agree; exit code 3 if something is wrong."""
    config, workspace = load_project()

    from darkroom.commands.doctor.run import run

    if not run(config, workspace, fix=fix):
        raise typer.Exit(WRONG)


@app.command(rich_help_panel=OVERVIEW)
def trials(
    as_json: Annotated[bool, typer.Option("--json", help="Print the study and its trials as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a line for each trial, separated by commas.")] = False,
) -> None:
    """Show the trials of the latest search, also while it runs."""
    if as_json and as_csv:
        raise SearchError("--json and --csv are two forms of the same; give one of them")
    config, workspace = load_project()

    from darkroom.commands.trials import run

    run(config, workspace, as_json=as_json, as_csv=as_csv)


@app.command(rich_help_panel=OVERVIEW)
def dashboard(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on, at 127.0.0.1.")] = 8080,
) -> None:
    """Open Optuna's own page on the studies, until Ctrl-C."""
    config, workspace = load_project()

    from darkroom.commands.dashboard import run

    run(config, workspace, port)


@app.command(rich_help_panel=OVERVIEW)
def datasets(
    inspect: Annotated[
        str | None,
        typer.Option("--inspect", metavar="PATH", help="Inspect this directory, zip, tar or s3://bucket/… instead."),
    ] = None,
) -> None:
    """List the datasets that dataset.name can be set to, or print how your own images would be read."""
    if inspect is None:
        from darkroom.commands.datasets import run

        run()
    else:
        from darkroom.commands.inspect_images import run as run_inspect

        run_inspect(inspect)


@app.command(rich_help_panel=OVERVIEW)
def architectures() -> None:
    """List the architectures that model.name can be set to, with their settings."""
    from darkroom.commands.architectures import run

    run()


@app.command(rich_help_panel=OVERVIEW)
def backbones(
    pattern: Annotated[
        str | None, typer.Argument(metavar="[PATTERN]", help="A part of the name, or a pattern such as 'timm/vit_*'.")
    ] = None,
) -> None:
    """List the models that model.backbone can be set to: torchvision's, and timm's by a pattern."""
    from darkroom.commands.backbones import run

    run(pattern)
