"""What processes do that the tests of the launch start."""

import os
import signal
import threading
from pathlib import Path

import torch
import torch.distributed as dist
from tests.wait import wait_until

from darkroom.errors import ConfigError
from darkroom.training import launch as module
from darkroom.training.process_group import joined

CPU = torch.device("cpu")


def add_up(folder: Path) -> None:
    with joined(CPU) as (ranks, _):
        values = [torch.full((2, 3), ranks.rank + 1.0), torch.tensor(10.0 * ranks.rank)]
        ranks.add_up(values)
        said = f"{ranks.count} {values[0].tolist()} {values[1].item()} {torch.get_num_threads()}"
        (folder / str(ranks.rank)).write_text(said, encoding="utf-8")


def raise_in(rank: int | None) -> None:
    """A user's mistake in one process, for which the others wait, or in all."""
    with joined(CPU) as (ranks, _):
        if rank in (None, ranks.rank):
            raise ConfigError(f"seen by {ranks.rank}")
        dist.barrier()


def raise_what_cannot_be_sent() -> None:
    class LocalError(Exception):
        pass

    raise LocalError("of this process")


def wait_for_each_other(folder: Path) -> None:
    """Until they are killed; each writes its number."""
    with joined(CPU) as (ranks, _):
        (folder / f"{ranks.rank}.pid").write_text(str(os.getpid()), encoding="utf-8")
        while True:
            ranks.add_up([torch.ones(1)])


def be_killed(folder: Path, rank: int) -> None:
    """One process is killed while the others wait for it: they end, and the first has time to put things in order."""
    try:
        with joined(CPU) as (ranks, _):
            (folder / f"{ranks.rank}.pid").write_text(str(os.getpid()), encoding="utf-8")
            if ranks.rank == rank:
                os.kill(os.getpid(), signal.SIGKILL)
            dist.barrier()
    finally:
        (folder / f"{os.environ['RANK']}.ended").touch()


def ignore_the_end(folder: Path, rank: int) -> None:
    """One process ends, and the other goes on whatever it is told."""
    if int(os.environ["RANK"]) == rank:
        wait_until((folder / "pid").exists, "the other was to begin")
        raise ConfigError("the first to end")
    module.PATIENCE_SECONDS = 0.1
    signal.signal(signal.SIGTERM, lambda *received: None)
    (folder / "pid").write_text(str(os.getpid()), encoding="utf-8")
    threading.Event().wait()


def start(folder: Path) -> None:
    """Start two processes, and wait for them."""
    module.START_METHOD = "fork"  # this process has nothing that must not be copied
    module.launch(2, wait_for_each_other, folder)
