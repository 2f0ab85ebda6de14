"""Packs what benchmarks.gpu.day needs, beside the working tree, on a machine without network: images and wheels.

    make gpu-cargo DATA=MIRROR [AIRBENCH=PATH]
    python -m benchmarks.gpu_cargo --data MIRROR [--airbench PATH] [--cargo build/gpu-cargo]

MIRROR holds mnist/*.gz and fashion-mnist/*.gz as they are published, and cifar10-jpeg.tar.xz: CIFAR-10 as a folder of
JPEG files. The images of the first two are packed anew, in xz: 36 MB instead of 41. The wheels, of the versions in
requirements.lock, are those that a machine with torch and torchvision usually lacks, for Python 3.12 on Linux x86-64.
PATH is airbench94_muon.py, as its author publishes it. Then, on that machine:

    python3 -m pip install --no-index --no-deps --target /tmp/site build/gpu-cargo/*.whl
    export PYTHONPATH=/tmp/site:src
    python3 -m benchmarks.gpu.day --data build/gpu-cargo --airbench build/gpu-cargo/airbench94_muon.py
"""

import argparse
import gzip
import lzma
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.measurements.data import CIFAR10, IDX
from benchmarks.gpu.measurements.speedruns import AIRBENCH
from benchmarks.machine import ROOT

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
MEGABYTE = 1e6


def pack_images(mirror: Path, cargo: Path) -> None:
    """Raises FileNotFoundError for what the mirror lacks."""
    for dataset in ("mnist", "fashion-mnist"):
        (cargo / dataset).mkdir(parents=True, exist_ok=True)
        for name in IDX.values():
            content = gzip.decompress((mirror / dataset / f"{name}.gz").read_bytes())
            packed = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
            (cargo / dataset / f"{name}.xz").write_bytes(packed)
    shutil.copyfile(mirror / CIFAR10, cargo / CIFAR10)


def pinned(lock: str) -> list[str]:
    """The wheels as name==version. Raises ValueError for one that is not in the lock file."""
    found = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", lock, re.MULTILINE))
    if absent := [name for name in WHEELS if name not in found]:
        raise ValueError(f"requirements.lock: lacks {', '.join(absent)}")
    return [f"{name}=={found[name]}" for name in WHEELS]


def fetch_wheels(cargo: Path) -> None:
    for old in cargo.glob("*.whl"):
        old.unlink()
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.12", "--implementation", "cp", *platforms, "--dest", str(cargo)]
    subprocess.run([*command, *pinned((ROOT / "requirements.lock").read_text(encoding="utf-8"))], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--airbench", type=Path)
    parser.add_argument("--cargo", type=Path, default=CARGO)
    options = parser.parse_args()
    options.cargo.mkdir(parents=True, exist_ok=True)
    try:
        pack_images(options.data, options.cargo)
        if options.airbench:
            shutil.copyfile(options.airbench, options.cargo / AIRBENCH)
    except FileNotFoundError as problem:
        print(f"error: {problem.filename}: not found; `python -m benchmarks.gpu_cargo --help` says what is needed")
        sys.exit(2)
    fetch_wheels(options.cargo)
    size = sum(path.stat().st_size for path in options.cargo.rglob("*") if path.is_file())
    print(f"{options.cargo}: {size / MEGABYTE:.1f} MB")


if __name__ == "__main__":
    main()
