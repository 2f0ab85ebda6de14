"""`darkroom init`: inspect a folder of images, choose settings to start with, and print the reasons."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from darkroom.commands.params.template import render
from darkroom.commands.recipes import RecipeFile, find, write_params
from darkroom.config import load, parse
from darkroom.config.addresses import is_address
from darkroom.config.bounded_yaml import read_yaml
from darkroom.config.settings import Model, Preprocess
from darkroom.data.digests import DIGEST_BYTES
from darkroom.datasets.archives import list_images, read_images
from darkroom.datasets.decoding import headers_of
from darkroom.datasets.folder import label_source
from darkroom.datasets.remote.bring import bring
from darkroom.datasets.splits import INBOX, assign_rows
from darkroom.errors import DarkroomError, DataError, ModelError, counted
from darkroom.models.network import Network
from darkroom.models.registry import build
from darkroom.utils.console import output, reporter, warn
from darkroom.workspace import Workspace

PHOTOS = "photos"
# Pictures up to this many pixels on their longer side are signs or tiles, which a small network learns from scratch.
SMALL_SIDE = 64
# Headers of about so many images are read, evenly from all.
SAMPLE = 500
# Class names that fit into the line that lists them.
MAX_NAMED = 5

Settings = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class _Images:
    """How many images each class and each split has, and of a sample ``sides`` int [N, 2] and ``channels``, 1 or 3."""

    classes: dict[str, int]
    splits: dict[str, int]
    sides: NDArray[np.int32]
    channels: set[int]

    @property
    def median(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = np.median(self.sides, axis=0).astype(int).tolist()
        return width, height

    @property
    def are_small(self) -> bool:
        return max(self.median) <= SMALL_SIDE


def run(workspace: Workspace, source: str, *, labels: str | None, weights: Path | None, force: bool) -> None:
    """Write params.yaml for the images in ``source``, and print what was chosen and why.

    ``source`` is a directory, an archive, or an address, whose images are downloaded now and kept for the pipeline.
    ``labels`` is the table in it that holds the labels; without one they are the names of folders.

    Photographs are for the recipe of pretrained features, whose weights are fetched now, or read from ``weights``.
    Small pictures, and photographs whose weights cannot be fetched, are for a small network trained from scratch.

    Raises DataError if the images cannot be read as they are arranged, ModelError if ``weights`` do not fit,
    ConfigError if params.yaml has edits that are saved nowhere else, without ``force``.
    """
    recipe = find(workspace, PHOTOS)  # and so refuses a directory that is no project
    if weights and not weights.is_file():
        raise ModelError(f"{weights}: no file; expected weights as .safetensors or .pth")
    with reporter() as report:
        wanted = parse({"dataset": _described(source, labels)}, where="").dataset
        local, _ = bring(wanted, workspace.remote, report)
    found = _look_at(Path(local.path).expanduser(), local.labels)
    chosen = _dataset(_named(workspace, source), labels, found)
    about, missing = "a small network, trained from scratch", None
    if found.are_small:
        about += f": the images have {SMALL_SIDE} pixels a side or fewer"
    if not found.are_small or weights:
        photos = _photos(recipe, chosen, weights)
        try:
            _check_weights(parse(photos, where="").model, found)
        except DarkroomError as problem:
            if weights:
                raise
            missing = problem
        else:
            reason = (
                "its weights are here" if found.are_small else f"the images have more than {SMALL_SIDE} pixels a side"
            )
            chosen, about = photos, f"the recipe {PHOTOS}, as {reason}: {recipe.config.recipe.about}"
    write_params(workspace, render(chosen), force=force or _is_unedited(workspace, recipe))
    for line in _lines(source, found):
        output.print(line)
    output.print(f"{workspace.params} is now {about}")
    if missing:
        warn(
            f"for photographs the recipe {PHOTOS} is far better, but its weights are not here: {missing}; then run "
            f"`darkroom init {quote(source)} --force`, with --weights FILE if you have a file"
        )
    output.print("Next: `dvc repro`, then `darkroom results` and `darkroom serve`")


def _look_at(source: Path, table: str | None) -> _Images:
    if not source.exists():
        raise DataError(f"{source}: not found; name a directory, or a zip or tar archive, of images")
    names, inventory = list_images(source)
    labeled = label_source(source, table, names, inventory)
    for line in labeled.warnings:
        warn(line)
    # Refused now and not by `dvc repro`: classes that have too few images. Which come to which split does not matter.
    assign_rows(labeled, Preprocess(), np.zeros((len(labeled.labels), DIGEST_BYTES), dtype=np.uint8))
    # Those of the inbox have the size that an earlier model saw.
    names = [names[row] for row in labeled.rows[labeled.splits != INBOX].tolist()]
    sample = set(names[:: -(-len(names) // SAMPLE)])
    headers = headers_of((content for _, content in read_images(source, chosen=sample)), len(sample))
    headers = headers[headers["channels"] > 0]
    if not len(headers):
        raise DataError(f"{source}: none of {counted(len(sample), 'image')} can be read; look at one of them yourself")
    classes = Counter(labeled.labels.tolist())
    return _Images(
        {name: classes[number] for number, name in enumerate(labeled.classes)},
        dict(Counter(labeled.splits.tolist())),
        np.stack([headers["width"], headers["height"]], axis=1),
        set(headers["channels"].tolist()),
    )


def _described(path: str | None, labels: str | None) -> dict[str, Any]:
    """The section dataset."""
    return {"name": "folder", "path": path} | ({"labels": labels} if labels else {})


def _dataset(path: str, labels: str | None, found: _Images) -> Settings:
    """The settings of the images and of how they are read."""
    settings: Settings = {"dataset": _described(path, labels)}
    if len(found.channels) > 1:
        settings["preprocess"] = {"channels": 3}
    return settings


def _photos(recipe: RecipeFile, dataset: Settings, weights: Path | None) -> Settings:
    settings: Settings = read_yaml(recipe.path) or {}
    given = dataset | ({"model": {"weights_path": str(weights.absolute())}} if weights else {})
    return settings | {section: settings.get(section, {}) | values for section, values in given.items()}


def _is_unedited(workspace: Workspace, recipe: RecipeFile) -> bool:
    """Whether params.yaml is as this command wrote it for whatever images."""
    try:
        config = load(workspace.params)
    except DarkroomError:
        return False
    dataset: Settings = {"dataset": _described(config.dataset.path, config.dataset.labels)}
    if config.preprocess.channels is not None:
        dataset["preprocess"] = {"channels": config.preprocess.channels}
    weights = Path(config.model.weights_path) if config.model.weights_path else None
    return workspace.params.read_text(encoding="utf-8") in {render(dataset), render(_photos(recipe, dataset, weights))}


def _named(workspace: Workspace, source: str) -> str:
    """The source as a setting names it: a path relative to the project's root if it is inside the project."""
    if is_address(source):
        return source
    root, path = workspace.root.resolve(), Path(source).expanduser().resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _check_weights(settings: Model, found: _Images) -> None:
    """Download the weights if they are missing. Raises ModelError if that fails, or if they are of another model."""
    shape = (3, SMALL_SIDE, SMALL_SIDE)
    network = build(settings, shape, len(found.classes))
    assert isinstance(network, Network), "one with weights from elsewhere"
    network.initialize(torch.zeros(1, *shape))


def _lines(source: str, found: _Images) -> list[str]:
    total = counted(sum(found.classes.values()), "image")
    named = [f"{name} {count:,}" for name, count in list(found.classes.items())[:MAX_NAMED]]
    named += ["…"] if len(found.classes) > MAX_NAMED else []
    color = "in color" if 3 in found.channels else "gray"
    if len(found.channels) > 1:
        color = "gray and in color, all read in color"
    given = [f"{split} {count:,}" for split, count in found.splits.items() if split]
    cut = [split for split in ("val", "test") if split not in found.splits]
    splits = f"splits: {', '.join(given)} as given" if given else "no splits given"
    return [
        f"{source}: {total} in {len(found.classes):,} classes ({', '.join(named)})",
        f"  {'x'.join(map(str, found.median))} pixels in the median, {color}",
        f"  {splits}" + (f"; {' and '.join(cut)} will be cut from train" if cut else ""),
    ]
