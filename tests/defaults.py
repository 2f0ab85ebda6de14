"""The settings and recipes of a fresh clone, whatever has been edited in this working tree since."""

import io
import re
import shutil
from functools import cache
from pathlib import Path

from ruamel.yaml import YAML

from darkroom.commands.params.template import render
from darkroom.config.bounded_yaml import read_yaml

ROOT = Path(__file__).parents[1]
# The settings of a fresh clone's params.yaml. Users edit that file, and leave this one as it is.
RECIPE = ROOT / "recipes" / "digits.yaml"
RECIPES_PAGE = ROOT / "docs" / "recipes.md"


def recipes() -> list[Path]:
    """The recipes that the documentation lists: a user's own may lie beside them."""
    names = re.findall(r"^\| \[`([\w-]+)`\]", RECIPES_PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [ROOT / "recipes" / f"{name}.yaml" for name in names]


@cache
def params() -> str:
    """A fresh clone's params.yaml."""
    settings = read_yaml(RECIPE)
    del settings["recipe"]
    return render(settings)


def copy_recipes(directory: Path) -> None:
    """Copy the shipped recipes and their measurements to ``directory``/recipes."""
    (directory / "recipes").mkdir(parents=True)
    for path in (*recipes(), ROOT / "recipes" / "measured.json"):
        shutil.copy(path, directory / "recipes" / path.name)


def write_params(directory: Path, **changes: object) -> None:
    """Write params.yaml to ``directory``, with changes given as section__key=value."""
    key = repr(sorted(changes.items()))
    if key not in _texts:  # YAML with comments takes a while to read and write
        _texts[key] = _text(changes)
    (directory / "params.yaml").write_text(_texts[key], encoding="utf-8")


_texts: dict[str, str] = {}


def _text(changes: dict[str, object]) -> str:
    yaml, written = YAML(), io.StringIO()
    settings = yaml.load(params())
    for name, value in changes.items():
        section, _, key = name.partition("__")
        settings[section][key] = value
    yaml.dump(settings, written)
    return written.getvalue()
