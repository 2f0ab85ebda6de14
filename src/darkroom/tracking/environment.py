"""The environment of a run: the user, the code, the machine, the versions."""

import json
import os
import platform
import subprocess
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    import torch

COMMIT_TAG = "mlflow.source.git.commit"
DIRTY_TAG = "darkroom.git_dirty"


def describe_environment(device: "torch.device", precision: str) -> dict[str, Any]:
    """The environment of a run: device, threads, precision and versions."""
    import torch  # by which the rest of this module is not slowed down

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "system.device": device.type,
        "system.device_name": name,
        "system.precision": precision,
        "system.threads": torch.get_num_threads(),
        "system.cpu_count": os.cpu_count(),
        "system.memory_bytes": psutil.virtual_memory().total,
        "system.platform": platform.platform(),
        "system.python": platform.python_version(),
        **{f"system.{name}": version(name) for name in ("torch", "torchvision", "mlflow", "numpy", "darkroom")},
    }


def user() -> str:
    """The user's name: the one for the MLflow server, else that of the account on this machine."""
    if name := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return name
    try:
        return psutil.Process().username()
    except (KeyError, psutil.Error):  # an id without a name, as in some containers
        return str(os.getuid())


def code_version() -> dict[str, str]:
    """The git commit and whether tracked files here differ from it, as tags.

    None outside a repository, and in one that does not hold this project: somebody's around an unpacked archive of it.
    """
    try:
        commit = _git("rev-parse", "HEAD")
        _git("cat-file", "-e", "HEAD:./params.yaml")
        dirty = _git("status", "--porcelain", "--untracked-files=no", ".")
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {COMMIT_TAG: commit, DIRTY_TAG: json.dumps(bool(dirty))}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
