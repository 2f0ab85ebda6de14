"""How a process joins those that it trains a model with: by the environment that started it."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist

from darkroom.errors import ConfigError, LostProcessError, first_line
from darkroom.training.ranks import ALONE, Ranks

# What torchrun, and this project's own launch, tell a process.
KEYS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# Ports for jobs of SLURM, which gives none: from the first on, by the numbers of job and step.
FIRST_PORT, PORTS = 15_000, 20_000


def member(environment: Mapping[str, str]) -> dict[str, str] | None:
    """``KEYS`` and their values for a process that was started as one of several; None for any other.

    By torchrun, or by SLURM's srun, whose own variables say the same. Raises ConfigError if some are missing.
    """
    if "RANK" not in environment:
        return _of_slurm(environment)
    if missing := [key for key in KEYS if key not in environment]:
        raise ConfigError(f"RANK is set, but {missing[0]} is not; start the processes with torchrun, or unset RANK")
    for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"):
        if not environment[key].isdecimal():
            raise ConfigError(f"{key}: expected a whole number, got {environment[key]!r}; torchrun sets it")
    return {key: environment[key] for key in KEYS}


def _of_slurm(environment: Mapping[str, str]) -> dict[str, str] | None:
    # Set in steps, which srun starts, and not in the script of a batch.
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) == 1:
        return None
    number = int(environment["SLURM_JOB_ID"]) + int(environment["SLURM_STEP_ID"])
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "MASTER_ADDR": environment.get("MASTER_ADDR", _first_host(environment["SLURM_STEP_NODELIST"])),
        "MASTER_PORT": environment.get("MASTER_PORT", str(FIRST_PORT + number % PORTS)),
    }


def _first_host(nodes: str) -> str:
    """Of a list as SLURM writes it, such as "gpu[03-05,9],big1"."""
    return re.sub(r"\[(\w+)[^]]*\]", r"\1", re.split(r",(?![^[]*\])", nodes)[0])


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Ranks, torch.device]]:
    """The processes of this training, and this one's device of the kind ``device``, as a context.

    Raises ConfigError if this process has no GPU of its own, and LostProcessError if another one has ended, in which
    case the group is left as it is.
    """
    found = member(os.environ)
    if found is None or found["WORLD_SIZE"] == "1":
        yield ALONE, device
        return
    own = _own_device(device, int(found["LOCAL_RANK"]))
    os.environ.update(found)
    try:
        if not dist.is_initialized():  # as Ray Train does before
            dist.init_process_group("nccl" if own.type == "cuda" else "gloo")
        yield Ranks(dist.get_rank(), dist.get_world_size()), own
    except RuntimeError as problem:
        if not _is_lost(problem):
            raise
        raise LostProcessError(
            f"another process of this training has ended ({first_line(problem)}); run the same command again: the "
            "training resumes after its last checkpoint"
        ) from None
    dist.destroy_process_group()


def _own_device(device: torch.device, number: int) -> torch.device:
    if device.type != "cuda":
        return device
    there = torch.cuda.device_count()
    # SLURM may show each process only its own GPU.
    number = 0 if there == 1 and "SLURM_LOCALID" in os.environ else number
    if number >= there:
        raise ConfigError(
            f"process {number} of this machine has no GPU of its own: there are {there}; start one process for each"
        )
    own = torch.device("cuda", number)
    torch.cuda.set_device(own)
    return own


def _is_lost(problem: RuntimeError) -> bool:
    """Whether a message to another process failed. gloo has no exception of its own."""
    return isinstance(problem, dist.DistError) or "gloo" in str(problem).lower()
