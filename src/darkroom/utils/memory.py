"""Memory: how much there is, and the error message if it is not enough, whichever library reports it."""

import errno
import re
from pathlib import Path

import psutil

from darkroom.errors import first_line
from darkroom.utils.units import GIBIBYTE

# How much was asked for, as numpy, torch on a CPU and torch on a GPU say it.
WANTED = re.compile(r"(?:Unable|[Tt]ried) to allocate ([\d.]+ ?\w+)")
# What a GPU had left, as torch says it.
FREE_ON_GPU = re.compile(r"of which ([\d.]+ \w+) is free")
# The words for it of libraries that raise a RuntimeError: torch's allocators, C++, sizes beyond 64 bits, and CUDA's.
WORDS = ("allocate memory", "not enough memory", "out of memory", "bad_alloc", "calculation overflowed", "ALLOC_FAILED")
# Bounds of a container, in version 2 and 1 of Linux's cgroups.
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# What can be lowered, by the command that ran out of it.
TRAINING = (
    "lower train.batch_size, raise train.accumulate, or lower preprocess.image_size, model.input_size or the sizes of "
    "the model, such as model.filters"
)
REMEDIES = {
    "preprocess": "lower preprocess.image_size",
    "search": f"{TRAINING}; search.workers and search.fuse multiply it",
    "train": TRAINING,
    "lr-find": TRAINING,
    "evaluate": "lower evaluate.batch_size or preprocess.image_size",
    "predict": "ask about fewer pictures, or lower serve.batch_size",
    "serve": "lower serve.batch_size",
}
ELSEWHERE = "end other programs, or run it on a machine with more"


def total_bytes() -> int:
    """The memory of this machine, or of the container that this process is in."""
    total: int = psutil.virtual_memory().total
    for path in LIMITS:
        try:
            total = min(total, int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such version, or "max"
            continue
    return total


def free_bytes() -> int:
    """The memory that is available to programs now."""
    return min(int(psutil.virtual_memory().available), total_bytes())


def shortage(problem: BaseException) -> str | None:
    """The shortage in words, with the bytes requested and available; None for a problem of another kind."""
    text = str(problem)
    is_short = (
        isinstance(problem, MemoryError)
        or (isinstance(problem, RuntimeError) and any(words in text for words in WORDS))
        or getattr(problem, "errno", 0) == errno.ENOMEM
    )
    if not is_short:
        return None
    wanted = WANTED.search(text)
    said = [f"{_readable(wanted[1])} wanted"] if wanted else []
    if "CUDA" in text or "CUBLAS" in text:
        what, free = "the GPU has not enough memory", FREE_ON_GPU.search(text)
        said += [f"{free[1]} free"] if free else []
    else:
        what = "not enough memory"
        said.append(f"{free_bytes() / GIBIBYTE:.1f} GiB of {total_bytes() / GIBIBYTE:.1f} GiB free")
    return f"{what} ({', '.join(said)})" if said else what


def failure_reason(problem: BaseException) -> str:
    """Why something failed, in one line: a clear message for a shortage of memory, else the problem's own."""
    return shortage(problem) or first_line(problem)


def killed_worker() -> str:
    """The error message for a killed worker process: only the system or the user can have killed it."""
    free = f"{free_bytes() / GIBIBYTE:.1f} GiB is free"
    return f"a worker process was killed, perhaps because memory ran out (without it {free})"


def remedy(command: str | None) -> str:
    """What a user of ``command`` can do about a shortage."""
    return REMEDIES.get(command or "", ELSEWHERE)


def _readable(amount: str) -> str:
    """torch's allocator on a CPU counts single bytes."""
    number, _, unit = amount.partition(" ")
    return f"{int(number) / GIBIBYTE:.1f} GiB" if unit == "bytes" else amount
