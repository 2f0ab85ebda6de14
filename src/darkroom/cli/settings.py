"""The commands about settings: recipes, a params.yaml for a folder of images, and a first learning rate."""

from pathlib import Path
from typing import Annotated

import typer

from darkroom.cli.project import load_project
from darkroom.workspace import Workspace

app = typer.Typer()
recipes = typer.Typer(help="Complete settings of known experiments, to start from.", no_args_is_help=True)
SETTINGS = "Settings"
app.add_typer(recipes, name="recipe", rich_help_panel=SETTINGS)
Name = Annotated[str, typer.Argument(help="A name from `darkroom recipe list`.")]


@recipes.command("list")
def list_recipes() -> None:
    """Show every recipe: its dataset, its model, and what it was measured to reach."""
    from darkroom.commands.recipes import show_all

    show_all(Workspace())


@recipes.command("show")
def show_recipe(name: Name) -> None:
    """Print a recipe's settings."""
    from darkroom.commands.recipes import show

    show(Workspace(), name)


@recipes.command("use")
def use_recipe(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Write over edits that are saved nowhere else.")] = False,
) -> None:
    """Make a recipe params.yaml; `dvc repro` then runs it."""
    from darkroom.commands.recipes import use

    use(Workspace(), name, force=force)


@app.command(rich_help_panel=SETTINGS)
def init(
    source: Annotated[
        str, typer.Argument(metavar="PATH", help="A directory, zip or tar of your own images, or s3://bucket/…")
    ],
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="TABLE", help="A .csv or .parquet in it that holds the labels.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Pretrained weights in a file, where there is no network.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over edits that are saved nowhere else.")] = False,
) -> None:
    """Look at your images, write a params.yaml that suits them, and say why."""
    from darkroom.commands.init import run

    run(Workspace(), source, labels=labels, weights=weights and weights.expanduser(), force=force)


@app.command(rich_help_panel=SETTINGS)
def lr_find(
    steps: Annotated[int, typer.Option(min=10, max=100_000, help="Optimizer steps to try.")] = 200,
) -> None:
    """Try rising learning rates on the preprocessed data, draw the loss, and suggest a train.lr."""
    config, workspace = load_project()

    from darkroom.commands.lr_find import run

    run(config, workspace, steps)
