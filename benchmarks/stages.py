"""Time and memory of a stage of the pipeline, as a process of its own."""

import resource
import subprocess
import sys
import time
from pathlib import Path

import psutil

INTERVAL = 0.02
# What the first process and a worker import, with what they import only while they work.
IMPORTS = {
    "download": ("darkroom.cli.main, darkroom.stages.download", "sys"),
    "preprocess": (
        "darkroom.cli.main, darkroom.stages.preprocess, sklearn.model_selection, matplotlib.backends.backend_agg",
        "darkroom.cli.main, darkroom.datasets.decoding",
    ),
    "train": ("darkroom.cli.main, darkroom.stages.train, matplotlib.backends.backend_agg", "sys"),
}


def measure(stage: str) -> dict[str, float]:
    """Run the command of a stage in the working directory. Returns seconds, and megabytes above the imports.

    Memory is the resident set, which counts the pages of mapped files too, looked at every 20 ms: the most that all of
    the command's processes together have taken, less what they take that have imported the same and done nothing.
    """
    of_first, of_worker = (_idle(modules) for modules in IMPORTS[stage])
    start, processor = time.perf_counter(), _processor_time()
    started = subprocess.Popen([Path(sys.executable).with_name("darkroom"), stage])
    first = psutil.Process(started.pid)
    peak = 0.0
    while started.poll() is None:
        above = max(0.0, _resident(first) - of_first)
        # Of a worker that still imports, and of the process that looks after them, nothing is above.
        above += sum(max(0.0, _resident(child) - of_worker) for child in first.children(recursive=True))
        peak = max(peak, above)
        time.sleep(INTERVAL)
    seconds = time.perf_counter() - start
    assert started.returncode == 0, f"darkroom {stage} failed"
    return {
        f"s, {stage}": seconds,
        f"s, {stage}, processor": _processor_time() - processor,
        f"MB above imports, {stage}": peak / 1e6,
    }


def _resident(process: psutil.Process) -> int:
    """The resident set of a process in bytes; none if it has just ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _idle(modules: str) -> int:
    """The resident set of a process that has imported ``modules`` and done nothing."""
    code = f"import {modules}; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        started.stdout.readline()
        found = _resident(psutil.Process(started.pid))
        started.communicate(b"\n")
    return found


def _processor_time() -> float:
    """Seconds of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
