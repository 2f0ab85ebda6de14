"""The commands that use a model: `darkroom export`, `predict` and `serve`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from darkroom.config import Config, load
from darkroom.console import messages, output
from darkroom.errors import DataError, ModelError, ServingError, TrackingError, did_you_mean
from darkroom.workspace import Workspace

if TYPE_CHECKING:
    from darkroom.serving.predictor import Predictor

app = typer.Typer()
USE = "Using a model"


@app.command(rich_help_panel=USE)
def export(
    to: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("models/model.pth"),
    form: Annotated[Literal["pth"], typer.Option("--format", help="pth: a plain state_dict.")] = "pth",
) -> None:
    """Write the trained model to a file that torch reads, and its card beside it."""
    from darkroom.export import export_pth

    export_pth(Workspace(), to)
    output.print(f"{to}: a state_dict; {to.with_suffix('.json')}: its settings and classes")


@app.command(rich_help_panel=USE)
def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files: png, jpeg, webp, bmp or tiff.")],
    weights: Annotated[Path | None, typer.Option(help="Ask this state_dict (.pth) instead of the champion.")] = None,
    model: Annotated[str | None, typer.Option(help="With --weights: its architecture, if no card lies beside.")] = None,
    invert: Annotated[
        bool | None,
        typer.Option("--invert/--no-invert", help="Show the model the negatives.", show_default="as needed"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with every probability.")] = False,
) -> None:
    """Classify image files with the champion, or with a file of weights."""
    config = load(Workspace().params)
    missing = [path for path in images if not path.is_file()]
    if missing:
        raise DataError(f"{missing[0]}: no such file")
    if model is not None and weights is None:
        raise ModelError("--model: names the architecture of --weights, which is not given")
    predictor = _champion(config) if weights is None else _predictor_from(weights, model, config)
    found = predictor.predict(images, invert=invert)
    if as_json:
        answers = [
            {"image": each.image, "label": each.label, "inverted": each.inverted, "probabilities": each.probabilities}
            for each in found
        ]
        typer.echo(json.dumps({"version": predictor.version, "predictions": answers}, ensure_ascii=False, indent=2))
        return
    if turned := sum(each.inverted for each in found):
        messages.print(f"{turned} of {len(found)} shown to the model as negatives, like the images it learned from")
    table = Table("image", "label", "probability", "next")
    for each in found:
        (label, probability), *others = each.probabilities.items()
        following = ", ".join(f"{name} {value:.1%}" for name, value in others[:2])
        table.add_row(each.image, label, f"{probability:.1%}", following)
    output.print(table)


@app.command(rich_help_panel=USE)
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 8000,
) -> None:
    """Serve the champion, as a page and an API that follow the registry, until Ctrl-C.

    With the environment variable DARKROOM_API_KEY set, the API asks for that key.
    """
    workspace = Workspace()
    config = load(workspace.params)
    try:
        from darkroom.serving.server import serve as run
    except ModuleNotFoundError as problem:
        raise ServingError(f"{problem.name} is not installed; run `pip install --editable '.[serve]'`") from None

    run(config, workspace, host, port)


def _champion(config: Config) -> "Predictor":
    from darkroom.serving.predictor import Predictor
    from darkroom.tracking.address import store_address, store_exists
    from darkroom.tracking.tracker import connect

    if not store_exists():
        raise TrackingError(f"no MLflow store at {store_address()}; run `dvc repro` to train and register a model")
    return Predictor.champion(connect(config.tracking, Workspace().spools).client, config.registered_model)


def _predictor_from(weights: Path, model: str | None, config: Config) -> "Predictor":
    from darkroom.models.registry import architectures
    from darkroom.serving.predictor import Predictor

    if model is not None and model not in architectures():
        raise ModelError(f"--model: no architecture {model!r}; {did_you_mean(model, architectures())}")
    return Predictor.from_weights(weights, model, config, Workspace())
