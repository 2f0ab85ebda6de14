"""Packs the images and wheels that benchmarks.gpu.day needs on a machine without network.

    make gpu-cargo DATA=MIRROR [AIRBENCH=PATH] [PIPELINE=1]
    python -m benchmarks.gpu_cargo --data MIRROR [--airbench PATH] [--pipeline] [--cargo build/gpu-cargo]

MIRROR holds mnist/*.gz and fashion-mnist/*.gz as they are published, and cifar10-jpeg.tar.xz: CIFAR-10 as a folder of
JPEG files. MNIST and Fashion-MNIST are recompressed with xz: 36 MB instead of 41. The wheels, in the versions of
requirements.lock, are those that a machine with torch and torchvision usually lacks, for Python 3.12 on Linux x86-64.
PATH is airbench94_muon.py, as its author publishes it. Then, on that machine:

    python3 -m pip install --no-index --no-deps --upgrade --target build/site build/gpu-cargo/*.whl
    export PYTHONPATH=build/site:src
    python3 -m benchmarks.gpu.day --data build/gpu-cargo --airbench build/gpu-cargo/airbench94_muon.py

With --pipeline it packs what benchmarks.gpu.pipeline needs, into build/gpu-cargo-pipeline: MNIST as published, and the
wheels of MLflow and Optuna with all their dependencies except those in PRESENT. What is larger than LIMIT together with
the working tree is not packed: it could not be sent to such a machine.
"""

import argparse
import gzip
import lzma
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from benchmarks.gpu.measurements.data import CIFAR10, IDX
from benchmarks.gpu.measurements.speedruns import AIRBENCH
from benchmarks.machine import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from darkroom.utils.scratch import scratch_directory

CARGO = ROOT / "build" / "gpu-cargo"
WHEELS = (
    "annotated-types",
    "platformdirs",
    "pooch",
    "pydantic",
    "pydantic-core",
    "ruamel-yaml",
    "typing-inspection",
)
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# For the whole pipeline: these, and all that they need, but for what machines for torch usually have.
PIPELINE = ("cmaes", "mlflow", "optuna", *WHEELS)
PRESENT = (
    "annotated-doc anyio attrs certifi cffi charset-normalizer click cloudpickle colorama contourpy cycler "
    "filelock fonttools fsspec h11 httpcore httpx idna jinja2 joblib kiwisolver markdown-it-py markupsafe "
    "matplotlib mdurl mpmath networkx numpy packaging pandas pillow pluggy protobuf psutil pyarrow pygments "
    "pyparsing python-dateutil pytz pyyaml requests rich safetensors scikit-learn scipy setuptools shellingham "
    "six sympy threadpoolctl torch torchvision tqdm triton typer typing-extensions tzdata urllib3 werkzeug zipp"
)
TARGET = {"python_version": "3.12", "python_full_version": "3.12.3", "sys_platform": "linux", "extra": ""}
MEBIBYTE = 1 << 20
# Bytes that can be sent, with the working tree.
LIMIT = 64 * MEBIBYTE


def pack_images(mirror: Path, cargo: Path) -> None:
    for dataset in ("mnist", "fashion-mnist"):
        (cargo / dataset).mkdir(parents=True, exist_ok=True)
        for name in IDX.values():
            content = gzip.decompress((mirror / dataset / f"{name}.gz").read_bytes())
            packed = lzma.compress(content, preset=9)
            (cargo / dataset / f"{name}.xz").write_bytes(packed)
    shutil.copyfile(mirror / CIFAR10, cargo / CIFAR10)


def needed(roots: Iterable[str]) -> list[str]:
    """``roots`` and all that they need on Linux with Python 3.12, by their metadata here, without PRESENT."""
    found: set[str] = set()
    waiting = set(roots)
    while waiting:
        name = waiting.pop()
        found.add(name)
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            other = canonicalize_name(requirement.name)
            applies = requirement.marker is None or requirement.marker.evaluate(TARGET)
            if applies and other not in found and other not in PRESENT.split():
                waiting.add(other)
    return sorted(found)


def pinned(names: Iterable[str], lock: str) -> list[str]:
    """The wheels as name==version. Raises ValueError for one that is not in the lock file."""
    found = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", lock, re.MULTILINE))
    if absent := [name for name in names if name not in found]:
        raise ValueError(f"requirements.lock: lacks {', '.join(absent)}")
    return [f"{name}=={found[name]}" for name in names]


def fetch_wheels(names: Iterable[str], cargo: Path) -> None:
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.12", "--implementation", "cp", *platforms, "--dest", str(cargo)]
    subprocess.run([*command, *pinned(names, (ROOT / "requirements.lock").read_text(encoding="utf-8"))], check=True)


def _sources(options: argparse.Namespace) -> list[Path]:
    datasets = ("mnist",) if options.pipeline else ("mnist", "fashion-mnist")
    found = [options.data / dataset / f"{name}.gz" for dataset in datasets for name in IDX.values()]
    return [*found, *([] if options.pipeline else [options.data / CIFAR10]), *filter(None, [options.airbench])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--airbench", type=Path)
    parser.add_argument("--pipeline", action="store_true")
    parser.add_argument("--cargo", type=Path, default=CARGO)
    options = parser.parse_args()
    cargo = options.cargo.with_name(f"{options.cargo.name}-pipeline") if options.pipeline else options.cargo
    # Before minutes are spent on packing.
    if absent := [path for path in _sources(options) if not path.is_file()]:
        _refuse(f"{absent[0]}: not found; `python -m benchmarks.gpu_cargo --help` says what is needed")
    cargo.parent.mkdir(parents=True, exist_ok=True)
    with scratch_directory(cargo.parent) as packed:
        _pack(options, packed)
        sizes = {path: path.stat().st_size for path in packed.rglob("*") if path.is_file()}
        total, tree = sum(sizes.values()), tree_bytes()
        if total + tree > LIMIT:
            largest = max(sizes, key=sizes.__getitem__)
            _refuse(
                f"{cargo}: not written: {_mebibytes(total)}, and with the working tree's {_mebibytes(tree)} at most "
                f"{_mebibytes(LIMIT)} can be sent; pack smaller images (the largest file is {largest.name}, "
                f"{_mebibytes(sizes[largest])})"
            )
        packed.chmod(0o755)  # as a new directory is, which one for temporary files is not
        for old in cargo.glob("*.whl"):
            old.unlink()
        shutil.copytree(packed, cargo, dirs_exist_ok=True)
    print(f"{cargo}: {_mebibytes(total)}, beside a working tree of {_mebibytes(tree)}")


def _pack(options: argparse.Namespace, cargo: Path) -> None:
    if options.pipeline:
        shutil.copytree(options.data / "mnist", cargo / "mnist", copy_function=shutil.copyfile)
    else:
        pack_images(options.data, cargo)
    if options.airbench:
        shutil.copyfile(options.airbench, cargo / AIRBENCH)
    fetch_wheels(needed(PIPELINE) if options.pipeline else WHEELS, cargo)


def tree_bytes() -> int:
    """The size of the working tree, without what git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    paths = [ROOT / os.fsdecode(name) for name in names if name]
    return sum(path.stat().st_size for path in paths if path.is_file())


def _mebibytes(count: int) -> str:
    return f"{count / MEBIBYTE:.1f} MiB"


def _refuse(reason: str) -> NoReturn:
    print(f"error: {reason}")
    sys.exit(2)


if __name__ == "__main__":
    main()
