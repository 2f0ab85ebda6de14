"""Whether the model in the working tree was made from the data in params.yaml, according to DVC's lock file."""

from pathlib import Path
from typing import Any

from darkroom.config import Config
from darkroom.config.addresses import is_address
from darkroom.config.bounded_yaml import read_yaml
from darkroom.config.settings import Dataset
from darkroom.errors import ConfigError
from darkroom.workspace import Workspace

LOCK = "dvc.lock"


def other_data(config: Config, workspace: Workspace) -> str | None:
    """A line on a model that was made from other data, with what helps; None if the data match or DVC has no record.

    A stage may have refused the new data, or the settings may have changed since: then the model is still the old one.
    """
    path, dataset = workspace.root / LOCK, config.dataset
    try:
        if not path.exists() or not _is_other(read_yaml(path)["stages"], dataset, workspace.root):
            return None
    except (ConfigError, KeyError, TypeError, AttributeError):  # damage that `darkroom doctor` and DVC report
        return None
    named = f"dataset.path {dataset.path}" if dataset.name == "folder" else f"dataset.name {dataset.name}"
    return f"{workspace.weights}: made from other data than params.yaml names ({named}); run `dvc repro`"


def _is_other(stages: dict[str, Any], dataset: Dataset, root: Path) -> bool:
    written = stages.get("download", {}).get("params", {}).get("params.yaml", {})
    if written and written.get("dataset.name") != dataset.name:
        return True
    if written and dataset.name == "folder" and _place(root, written["dataset.path"]) != _place(root, dataset.path):
        return True
    for place, made_by, used_by in (
        (f"data/raw/{dataset.name}", "download", "preprocess"),
        (f"data/processed/{dataset.name}", "preprocess", "train"),
    ):
        made, used = _digest(stages, made_by, "outs", place), _digest(stages, used_by, "deps", place)
        if None not in (made, used) and made != used:
            return True
    return False


def _place(root: Path, path: str) -> str:
    """``path`` in the one form of its many: through a link, from elsewhere, with a slash at its end."""
    return path if is_address(path) else str((root / Path(path).expanduser()).resolve())


def _digest(stages: dict[str, Any], stage: str, part: str, path: str) -> str | None:
    """The digest in the lock file of an input or output of a stage."""
    return next((each.get("md5") for each in stages.get(stage, {}).get(part, []) if each.get("path") == path), None)
