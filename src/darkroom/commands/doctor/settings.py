"""Whether params.yaml has every key that DVC looks for in it."""

from collections.abc import Iterator, Mapping
from typing import Any

from darkroom.commands.doctor.finding import Finding, wrong
from darkroom.config.bounded_yaml import read_yaml
from darkroom.workspace import Workspace

AREA = "settings"


def check(workspace: Workspace) -> Iterator[Finding]:
    """``workspace.params`` has been read, and is valid. Raises ConfigError if dvc.yaml cannot be read.

    A key that is not there has its default, but DVC refuses to run a stage that lists it.
    """
    if missing := _missing(workspace):
        yield wrong(
            AREA,
            f"{workspace.params}: lacks {', '.join(missing)}, without which `dvc repro` stops; `make params` adds them "
            "with their defaults and keeps the values of the others",
        )
    else:
        yield Finding(AREA, f"{workspace.params}: valid")


def _missing(workspace: Workspace) -> list[str]:
    """The keys that the stages in dvc.yaml list and params.yaml does not have, in the order of the former."""
    pipeline = workspace.root / "dvc.yaml"
    if not pipeline.exists():
        return []
    settings = read_yaml(workspace.params) or {}
    stages = read_yaml(pipeline)["stages"].values()
    # An entry that is no text lists keys of another file.
    listed = (entry for stage in stages for entry in stage.get("params", ()) if isinstance(entry, str))
    return [entry for entry in dict.fromkeys(listed) if not _has(settings, entry)]


def _has(settings: Any, entry: str) -> bool:
    for key in entry.split("."):
        if not isinstance(settings, Mapping) or key not in settings:
            return False
        settings = settings[key]
    return True
