"""What a benchmark ran on. `python -m benchmarks.machine` prints it."""

import json
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "mlflow",
    "optuna",
    "dvc",
    "lightning",
    "keras",
    "ultralytics",
    "timm",
    "fastai",
    "cleanlab",
    "cleanvision",
    "imagededup",
)


def processor() -> str:
    """What the processor calls itself; platform.processor() is often empty or only the architecture."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def peak_memory(*, with_children: bool = False) -> float:
    """The most memory that this process has held so far, in MiB; or it or any of its children that have ended."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    counted = [resource.RUSAGE_SELF, *([resource.RUSAGE_CHILDREN] if with_children else [])]
    return max(resource.getrusage(each).ru_maxrss for each in counted) * unit / (1 << 20)


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def conditions() -> dict[str, object]:
    import psutil
    import torch

    from darkroom.config.settings import Train
    from darkroom.training.device import choose_precision

    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "precision_as_chosen": choose_precision(Train(), torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        **versions(),
    }


if __name__ == "__main__":
    print(json.dumps(conditions()))
