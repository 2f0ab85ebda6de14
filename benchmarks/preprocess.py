"""Time and memory of `darkroom download` and `darkroom preprocess` on a folder of images.

Usage: python benchmarks/preprocess.py [--archive cifar10-jpeg.tar.xz | --images 60000] [--rounds 3] [--json FILE]

Conditions: each round is a new project in a temporary directory, with the settings of params.yaml and dataset.name
folder. The images are those of the archive, or as many synthetic ones: JPEGs of 32x32, 16 different ones in each of
10 classes, uncompressed in a zip. Seconds are those of the whole command, start included, its files in the page cache.
The processor's seconds, of all its processes together, are what other work on the machine changes least.
Memory is the resident set (RSS), which counts the pages of mapped files too, looked at every 20 ms: the most that the
command's first process, any worker, and all of them together have taken, less what a process takes that has imported
the same and done nothing. Looking takes a little of the time that is measured.
"""

import argparse
import io
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
INTERVAL = 0.02
# What the first process and a worker import, with what they import only while they work.
IMPORTS = {
    "download": ("darkroom.cli, darkroom.stages.download", "sys"),
    "preprocess": (
        "darkroom.cli, darkroom.stages.preprocess, sklearn.model_selection, matplotlib.backends.backend_agg",
        "darkroom.cli, darkroom.data.decoding",
    ),
}


def synthesise(count, path):
    """Write ``count`` images into the zip ``path``."""
    generator = np.random.default_rng(0)
    contents = []
    for _ in range(160):
        stream = io.BytesIO()
        coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((32, 32), Image.Resampling.BILINEAR).save(stream, "JPEG", quality=90)
        contents.append(stream.getvalue())
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            archive.writestr(f"class{number % 10}/{number:07}.jpg", contents[number % 160])


def resident(process):
    """The RSS of a process in bytes; none if it has just ended."""
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def idle(modules):
    """The RSS of a process that has imported ``modules`` and done nothing."""
    code = f"import {modules}; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        started.stdout.readline()
        found = resident(psutil.Process(started.pid))
        started.communicate(b"\n")
    return found


def processor_time():
    """Seconds of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(stage, project):
    """Run a stage. Returns its seconds, those of the processor, and the most MB above its imports as {who: MB}."""
    of_first, of_worker = (idle(modules) for modules in IMPORTS[stage])
    start, processor = time.perf_counter(), processor_time()
    started = subprocess.Popen([Path(sys.executable).with_name("darkroom"), stage], cwd=project)
    first = psutil.Process(started.pid)
    peaks = {"first process": 0, "any worker": 0, "together": 0}
    while started.poll() is None:
        above = max(0, resident(first) - of_first)
        # Of a worker that still imports, and of the process that looks after them, nothing is above.
        workers = [max(0, resident(child) - of_worker) for child in first.children(recursive=True)]
        for who, now in zip(peaks, (above, max(workers, default=0), above + sum(workers)), strict=True):
            peaks[who] = max(peaks[who], now)
        time.sleep(INTERVAL)
    seconds = time.perf_counter() - start
    assert started.returncode == 0, f"darkroom {stage} failed"
    return seconds, processor_time() - processor, {who: peak / 1e6 for who, peak in peaks.items()}


def measure(source, rounds):
    """Both stages, ``rounds`` times. Returns {(name, unit): values}."""
    values = defaultdict(list)
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as directory:
            project = Path(directory)
            yaml = YAML()
            settings = yaml.load(ROOT / "params.yaml")
            settings["dataset"] |= {"name": "folder", "path": str(source.resolve())}
            yaml.dump(settings, project / "params.yaml")
            for stage in IMPORTS:
                seconds, processor, peaks = run(stage, project)
                values[stage, "s"].append(seconds)
                values[f"{stage}, processor", "s"].append(processor)
                for who, peak in peaks.items():
                    values[f"{stage}, {who}, above imports", "MB"].append(peak)
            card = json.loads((project / "data/processed/folder/dataset.json").read_text())
            count = sum(card["sizes"].values())
            values["preprocess, an image", "us"].append(values["preprocess", "s"][-1] / count * 1e6)
            values["preprocess, processor, an image", "us"].append(
                values["preprocess, processor", "s"][-1] / count * 1e6
            )
    return values, card


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, help="a directory or archive of images")
    parser.add_argument("--images", type=int, default=60_000, help="synthetic images, where no archive is given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        source = options.archive or Path(directory, "synthetic.zip")
        if not options.archive:
            synthesise(options.images, source)
        values, card = measure(source, options.rounds)
    conditions = {
        "images": options.archive.name if options.archive else "synthetic",
        "sizes": card["sizes"],
        "shape": card["shape"],
        "fingerprint": card["fingerprint"],
        "n": options.rounds,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end",
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("numpy", "pillow", "scikit-learn", "matplotlib")},
    }
    print(json.dumps(conditions, indent=2))
    print(f"| {'what':50} | median | from | to |\n|---|---|---|---|")
    for (name, unit), found in values.items():
        print(f"| {name:50} | {statistics.median(found):.1f} {unit} | {min(found):.1f} | {max(found):.1f} |")
    if options.json:
        results = [{"name": name, "unit": unit, "values": found} for (name, unit), found in values.items()]
        report = {"benchmark": "preprocess", "conditions": conditions, "results": results}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
