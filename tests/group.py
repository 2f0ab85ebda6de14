"""Processes of one process group on gloo, in which functions of the tests run."""

import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from tests.forkserver import context


class Group:
    """``count`` processes with torch's default process group, as a context.

    They are begun once for many tests: each of them would need half a second.
    """

    def __init__(self, count: int, directory: Path) -> None:
        self.count = count
        self._ends: list[Connection] = []
        self.processes = []
        for rank in range(count):
            own, theirs = context().Pipe()
            process = context().Process(target=_work, args=(theirs, directory / f"store of {count}", rank, count))
            process.start()
            theirs.close()
            self.processes.append(process)
            self._ends.append(own)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        for process, end in zip(self.processes, self._ends, strict=True):
            process.kill()
            process.join()
            end.close()

    def run(self, function: Callable[..., Any], *given: Any) -> list[Any]:
        """What ``function`` gives in each process for its Ranks and what is ``given``. Raises what it raises there."""
        for end in self._ends:
            end.send((function, given))
        found = [end.recv() for end in self._ends]
        for each in found:
            if isinstance(each, _Failure):
                raise AssertionError(each.trace)
        return found


class _Failure:
    def __init__(self, trace: str) -> None:
        self.trace = trace


def _work(end: Connection, store: Path, rank: int, count: int) -> None:
    import torch
    import torch.distributed as dist

    from darkroom.training.ranks import Ranks

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count)
    while True:
        try:
            function, given = end.recv()
        except EOFError:
            return
        try:
            end.send(function(Ranks(rank, count), *given))
        except Exception:  # of any kind: the test's own process raises it again
            end.send(_Failure(traceback.format_exc()))
