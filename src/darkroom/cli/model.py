"""The commands that use a model: `darkroom export`, `predict`, `serve` and `inbox`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from darkroom.cli.project import load_project
from darkroom.errors import DataError, ModelError

app = typer.Typer()
USE = "Using a model"


@app.command(rich_help_panel=USE)
def export(
    form: Annotated[
        Literal["onnx", "pt2", "pth", "safetensors"],
        typer.Option("--format", help="onnx, pt2 (torch's exported program), or the weights alone."),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="A version, an alias, or the id of a run.", show_default="the one in the working tree"),
    ] = None,
    quantize: Annotated[Literal["int8"] | None, typer.Option(help="onnx only: compute in 8 bits.")] = None,
    to: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file.", show_default="one in models/exported")
    ] = None,
) -> None:
    """Write a model to a file for elsewhere, if it gives the same answers for every test image."""
    config, workspace = load_project()

    from darkroom.commands.export import run

    run(config, workspace, form, reference=model, quantize=quantize is not None, to=to)


@app.command(rich_help_panel=USE)
def predict(
    images: Annotated[
        list[str],
        typer.Argument(
            help="Images, directories or archives of them, patterns, @list.txt with a path a line, or addresses."
        ),
    ],
    weights: Annotated[Path | None, typer.Option(help="Ask this state_dict (.pth) instead of the champion.")] = None,
    model: Annotated[
        str | None, typer.Option(help="With --weights: its architecture, if there is no card next to it.")
    ] = None,
    invert: Annotated[
        bool | None,
        typer.Option("--invert/--no-invert", help="Show the model the negatives.", show_default="as needed"),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write every answer to this .csv, .parquet or .jsonl.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with every probability.")] = False,
    explain: Annotated[
        Path | None,
        typer.Option(help="Write a heat map of each image to this new directory: what speaks for its answer."),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(help="Answer on the Ray cluster at host:port, or auto on one of its nodes.", show_default="here"),
    ] = None,
) -> None:
    """Classify images with the champion, or with a file of weights.

    More than twenty answers are counted instead of listed. If the folders are named like the classes, the accuracy is
    printed. Images that cannot be read are named; the exit code is 2 if none can be. An interrupted command with
    --output continues when it is run again.
    """
    config, workspace = load_project()
    if model is not None and weights is None:
        raise ModelError("--model: names the architecture of --weights, which is not given")

    from darkroom.commands.predict import run

    run(
        config,
        workspace,
        images,
        weights=weights,
        model=model,
        invert=invert,
        to=to,
        as_json=as_json,
        explain=explain,
        ray_address=ray_address,
    )


@app.command(rich_help_panel=USE)
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 for any free one.")] = 8000,
    no_key: Annotated[
        bool, typer.Option("--no-key", help="Serve without an API key, even beyond this machine.")
    ] = False,
) -> None:
    """Serve the champion, as a page and an API that follow the registry, until Ctrl-C.

    With the environment variable DARKROOM_API_KEY set, the API asks for that key. Beyond this machine it must be set.
    """
    config, workspace = load_project()

    from darkroom.commands.serve import run

    run(config, workspace, host, port, no_key=no_key)


@app.command(rich_help_panel=USE)
def inbox(
    images: Annotated[int, typer.Option(min=1, max=1000, help="Pictures to label, at most.")] = 100,
    accept: Annotated[
        Path | None, typer.Option(help="What the page saved: move those pictures into the dataset.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was kept and chosen as JSON.")] = False,
) -> None:
    """List the pictures that servers kept, and make a page to label those that teach most.

    `serve.inbox` names their directory. Labeled pictures join the train split of a folder of images.
    """
    if accept is not None and as_json:
        raise DataError("--json lists the inbox and --accept takes pictures out of it; give one of them")
    config, workspace = load_project()

    from darkroom.commands.inbox import run, run_accept

    if accept is not None:
        run_accept(config, workspace, accept)
    else:
        run(config, workspace, images=images, as_json=as_json)
