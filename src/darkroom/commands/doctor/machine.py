"""Whether the machine has what a run needs: packages, disk space, permissions; and leftovers of killed processes."""

import os
import shutil
from collections.abc import Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from darkroom.commands.doctor.finding import Finding, wrong
from darkroom.errors import counted
from darkroom.utils.scratch import abandoned, remove_abandoned
from darkroom.utils.units import GIBIBYTE, GIGABYTE
from darkroom.workspace import Workspace, project_root

AREA = "machine"
LEAST_FREE_BYTES = GIBIBYTE


def check(workspace: Workspace) -> Iterator[Finding]:
    yield from _packages()
    free = shutil.disk_usage(workspace.root).free
    if free < LEAST_FREE_BYTES:
        yield wrong(
            AREA,
            f"{free / GIGABYTE:.1f} GB of disk are free; `dvc gc --workspace` frees what is not used here",
        )
    else:
        yield Finding(AREA, f"{free / GIGABYTE:,.0f} GB of disk are free")
    root = project_root()
    places = [root, *(root / name for name in ("data", "models", "reports", "mlruns", ".dvc"))]
    locked = [place for place in places if place.exists() and not os.access(place, os.W_OK)]
    for place in locked:
        yield wrong(AREA, f"{place}: cannot be written; `chmod u+w {place}` as its owner allows it")
    if not locked:
        yield Finding(AREA, "every directory of the project can be written")
    yield from _leftovers(root)


def _packages() -> Iterator[Finding]:
    """Whether the packages in pyproject.toml are installed in versions that it allows."""
    lacking = []
    for line in requires("darkroom") or ():
        wanted = Requirement(line)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            found = "none"
        if found == "none" or not wanted.specifier.contains(found, prereleases=True):
            lacking.append(f"{wanted.name}{wanted.specifier} is needed, {found} is installed")
    for line in lacking:
        yield wrong(AREA, f"{line}; `make .venv/.installed` installs what requirements.lock pins")
    if not lacking:
        yield Finding(AREA, "every package is installed in a version that Darkroom takes")


def _leftovers(root: Path) -> Iterator[Finding]:
    places = [root, *(path for name in ("data", "models", "reports") for path in _directories(root / name))]
    found = {place: count for place in places if (count := len(abandoned(place)))}
    for place, count in found.items():
        line = f"{place}: {counted(count, 'temporary file')} of killed processes; `darkroom doctor --fix` removes them"
        yield wrong(AREA, line, partial(remove_abandoned, place))
    if not found:
        yield Finding(AREA, "no temporary files of killed processes")


def _directories(place: Path) -> list[Path]:
    """The directory and its subdirectories, down to those that stages write to."""
    return [place, *place.glob("*/"), *place.glob("*/*/")]
