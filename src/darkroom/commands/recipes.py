"""Recipes: the settings of known experiments, and their measured results."""

import re
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table
from rich.text import Text

from darkroom.commands.params.template import render
from darkroom.config import Config, load
from darkroom.config.bounded_yaml import read_yaml
from darkroom.errors import ConfigError, did_you_mean
from darkroom.evaluation.intervals import share_interval
from darkroom.utils.console import output
from darkroom.utils.files import atomic_file, read_json
from darkroom.workspace import Workspace

MEASURED = "measured.json"
# Where the settings begin: what a file says of itself above them may differ.
SETTINGS = re.compile(rb"^(?!recipe:)\w+:", re.MULTILINE)


@dataclass(frozen=True)
class Measured:
    """The measurements of benchmarks/recipes.py: one mapping per seed, under the same ``conditions``.

    ``changes`` are settings in which the measured experiment differed from the recipe.
    """

    runs: Sequence[Mapping[str, Any]]
    conditions: Mapping[str, Any]
    changes: Mapping[str, str]
    preparation_seconds: float

    def percent(self, key: str = "accuracy") -> str:
        """Mean and standard deviation of a share over the runs, in percent."""
        values = [100 * float(run[key]) for run in self.runs]
        if len(values) == 1:
            return f"{values[0]:.2f}"
        return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"

    def interval(self) -> str:
        """The 95 % interval of the mean accuracy over other test images, in percent; empty if their number is unknown.

        All runs are measured on the same images, so that more runs do not make it narrower.
        """
        images = self.runs[0].get("images")
        if images is None:
            return ""
        low, high = share_interval(statistics.mean(float(run["accuracy"]) for run in self.runs), images)
        return f"{100 * low:.2f}-{100 * high:.2f}"

    @property
    def device(self) -> str:
        threads = self.conditions["threads"]
        count = "1 thread" if threads == 1 else f"{threads} threads"
        return f"{self.conditions['device']}, {count}, {self.conditions['precision']}"

    @property
    def train_seconds(self) -> float:
        """The median time of the train stage."""
        return statistics.median(float(run["train_seconds"]) for run in self.runs)


@dataclass(frozen=True)
class RecipeFile:
    """A file of settings, with defaults for all others, and the measured results if there are any."""

    path: Path
    config: Config
    measured: Measured | None

    @property
    def name(self) -> str:
        return self.path.stem

    def params(self) -> str:
        """The complete params.yaml of this recipe."""
        return render(read_yaml(self.path) or {})


def read_recipes(workspace: Workspace) -> dict[str, RecipeFile]:
    """Every recipe by name. Raises ConfigError if there are none or one is not valid."""
    return {path.stem: _read(path) for path in _paths(workspace)}


def find(workspace: Workspace, name: str) -> RecipeFile:
    """The recipe ``name``. Raises ConfigError, with the near names if there is none of this name."""
    paths = {path.stem: path for path in _paths(workspace)}
    if name not in paths:
        raise ConfigError(f"no recipe {name!r}; {did_you_mean(name, paths)}")
    return _read(paths[name])


def show_all(workspace: Workspace) -> None:
    """Print every recipe with its dataset, its model, and its measured results."""
    # A measured recipe takes two lines, so that all of it fits into 80 columns.
    accuracy = Column(Text("accuracy, %\n95 % interval"))
    table = Table("recipe", "dataset", "model", accuracy, "n", "s", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[3:]:
        column.justify = "right"
    recipes = read_recipes(workspace)
    for name, recipe in recipes.items():
        config, measured = recipe.config, recipe.measured
        found: list[str | Text] = ["not measured", "", ""]
        if measured:
            found = [
                Text(f"{measured.percent()}\n{measured.interval()}".strip()),
                str(len(measured.runs)),
                f"{measured.train_seconds:,.0f}",
            ]
        table.add_row(name, config.dataset.name, config.model.name, *found)
    output.print(table)
    devices = dict.fromkeys(recipe.measured.device for recipe in recipes.values() if recipe.measured)
    if devices:
        output.print(f"Mean and spread over n seeds on the test split, seconds of training: on {'; '.join(devices)}.")
        output.print("The interval says how far the mean may lie from that on endless test images.")


def show(workspace: Workspace, name: str) -> None:
    """Print the settings of the recipe ``name`` as params.yaml would hold them."""
    typer.echo(find(workspace, name).params(), nl=False)


def use(workspace: Workspace, name: str, *, force: bool) -> RecipeFile:
    """Make the recipe ``name`` params.yaml.

    Raises ConfigError, and leaves params.yaml as it is, if that holds edits that are saved nowhere else:
    neither committed to git nor a recipe's own, as a fresh clone's are. With ``force`` they are lost.
    """
    recipe = find(workspace, name)
    write_params(workspace, recipe.params(), force=force)
    about = f": {recipe.config.recipe.about}" if recipe.config.recipe.about else ""
    output.print(f"{workspace.params} is now the recipe {recipe.name}{about}. Run `dvc repro`.")
    return recipe


def write_params(workspace: Workspace, text: str, *, force: bool) -> None:
    """Make ``text`` params.yaml. Raises ConfigError as ``use`` does, but not if it is params.yaml already."""
    content, params = text.encode(), workspace.params
    if not force and params.exists() and params.read_bytes() != content and not _is_saved(workspace):
        raise ConfigError(
            f"{workspace.params}: has edits that are saved nowhere else; commit them, keep them by "
            f"`cp {workspace.params} {workspace.recipes / 'mine.yaml'}`, or write over them with --force"
        )
    with atomic_file(workspace.params) as partial:
        partial.write_bytes(content)


def _paths(workspace: Workspace) -> list[Path]:
    found = sorted(workspace.recipes.glob("*.yaml"))
    if not found:
        raise ConfigError(f"{workspace.recipes}: no recipes here; run this in the project's root")
    return found


def _read(path: Path) -> RecipeFile:
    measured = path.parent / MEASURED
    entries = read_json(measured, error=ConfigError, made_by="benchmarks/recipes.py") if measured.exists() else {}
    entry = entries.get(path.stem)
    return RecipeFile(path, load(path), Measured(**entry) if entry else None)


def _is_saved(workspace: Workspace) -> bool:
    content = workspace.params.read_bytes()
    try:
        # What git holds of the file is what it prints; it fails for a file that it does not hold.
        held = subprocess.run(
            ["git", "show", f"HEAD:./{workspace.params.name}"],
            cwd=workspace.params.absolute().parent,
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pass
    else:
        if held.stdout == content:
            return True
    settings = _settings(content)
    return any(_settings(text) == settings for path in _paths(workspace) for text in _texts(path))


def _texts(path: Path) -> Iterator[bytes]:
    """A recipe as it is written, which may be a copy of params.yaml, and as a complete params.yaml."""
    yield path.read_bytes()
    with suppress(ConfigError):  # another recipe than the one that is wanted may be damaged
        yield _read(path).params().encode()


def _settings(content: bytes) -> bytes:
    """The settings with their comments, without the header of the file."""
    found = SETTINGS.search(content)
    return content[found.start() :] if found else content
