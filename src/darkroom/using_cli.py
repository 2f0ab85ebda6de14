"""The commands that use a model: `darkroom export`, `predict` and `serve`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from darkroom.config import Config, load
from darkroom.errors import ModelError, ServingError, did_you_mean
from darkroom.utils.console import messages
from darkroom.workspace import Workspace

if TYPE_CHECKING:
    from darkroom.serving.predictor import Predictor

app = typer.Typer()
USE = "Using a model"


@app.command(rich_help_panel=USE)
def export(
    form: Annotated[
        Literal["onnx", "pt2", "pth", "safetensors"],
        typer.Option("--format", help="onnx, pt2 (torch's exported program), or the weights alone."),
    ],
    model: Annotated[
        str | None, typer.Option(help="A version, an alias, or the id of a run.", show_default="the one that lies here")
    ] = None,
    quantize: Annotated[Literal["int8"] | None, typer.Option(help="onnx only: compute in 8 bits.")] = None,
    to: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file.", show_default="one in models/exported")
    ] = None,
) -> None:
    """Write a model to a file for elsewhere, if it gives the same answers for every test image."""
    workspace = Workspace()
    config = load(workspace.params)

    from darkroom.export.command import run

    run(config, workspace, form, reference=model, quantize=quantize is not None, to=to)


@app.command(rich_help_panel=USE)
def predict(
    images: Annotated[
        list[Path],
        typer.Argument(help="Images, directories or archives of them, patterns, or @list.txt with a path a line."),
    ],
    weights: Annotated[Path | None, typer.Option(help="Ask this state_dict (.pth) instead of the champion.")] = None,
    model: Annotated[str | None, typer.Option(help="With --weights: its architecture, if no card lies beside.")] = None,
    invert: Annotated[
        bool | None,
        typer.Option("--invert/--no-invert", help="Show the model the negatives.", show_default="as needed"),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write every answer to this .csv, .parquet or .jsonl.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with every probability.")] = False,
) -> None:
    """Classify images with the champion, or with a file of weights.

    More than twenty answers are counted instead of listed. Where the folders are named as the classes, the accuracy is
    told. Images that cannot be read are named; the exit code is 2 if none can be.
    """
    config = load(Workspace().params)
    if model is not None and weights is None:
        raise ModelError("--model: names the architecture of --weights, which is not given")

    from darkroom.serving.inputs import Pictures
    from darkroom.serving.outputs import check_output

    if to is not None:
        check_output(to)
    pictures = Pictures([str(path) for path in images], encoding=config.dataset.encoding)
    predictor = _champion(config) if weights is None else _predictor_from(weights, model, config)

    from darkroom.serving.predict import run

    introduce = partial(_introduce, predictor, weights, config)
    run(predictor, pictures, introduce=introduce, invert=invert, to=to, to_stdout=as_json)


@app.command(rich_help_panel=USE)
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 for any free one.")] = 8000,
    no_key: Annotated[
        bool, typer.Option("--no-key", help="Answer everybody, also beyond this machine, without a key.")
    ] = False,
) -> None:
    """Serve the champion, as a page and an API that follow the registry, until Ctrl-C.

    With the environment variable DARKROOM_API_KEY set, the API asks for that key. Beyond this machine it must be set.
    """
    config = load(Workspace().params)
    try:
        from darkroom.serving.server import serve as run
    except ModuleNotFoundError as problem:
        raise ServingError(f"{problem.name} is not installed; run `pip install --editable '.[serve]'`") from None

    run(config, host, port, no_key=no_key)


def _introduce(predictor: "Predictor", weights: Path | None, config: Config) -> None:
    """Name the version that answers, and warn if its classes are not those of the dataset here."""
    from darkroom.serving.class_check import warn_of_other_classes

    who = str(weights or f"{config.registered_model} version {predictor.version}")
    if weights is None:
        messages.print(f"predict: {who} answers")
    warn_of_other_classes(who, predictor.classes, Workspace().processed(config.dataset.name))


def _champion(config: Config) -> "Predictor":
    from darkroom.serving.predictor import Predictor
    from darkroom.tracking.tracker import registry_client

    return Predictor.champion(registry_client(Workspace()), config.registered_model)


def _predictor_from(weights: Path, model: str | None, config: Config) -> "Predictor":
    from darkroom.models.registry import architectures
    from darkroom.serving.predictor import Predictor

    if model is not None and model not in architectures():
        raise ModelError(f"--model: no architecture {model!r}; {did_you_mean(model, architectures())}")
    return Predictor.from_weights(weights, model, config, Workspace())
