"""Where the shards of a dataset are worked on: in this process, in others of this machine, or in a Ray cluster."""

import signal
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from darkroom.datasets.decoding import set_up_worker

Task = Callable[..., Any]
# The arguments of a task by shard.
Shards = Mapping[int, Sequence[Any]]
# How often a shard is tried whose worker is killed.
ATTEMPTS = 3


class LostShardError(Exception):
    """Each worker that worked on this shard was killed."""

    def __init__(self, shard: int) -> None:
        super().__init__(shard)
        self.shard = shard


class Workers(Protocol):
    """What works on shards. ``are_elsewhere``: they may be on other machines, and return pixels to this one."""

    are_elsewhere: bool

    def run(self, task: Task, shards: Shards) -> Iterator[tuple[int, Any]]:
        """Each shard with what ``task`` returns for its arguments, in any order.

        Raises LostShardError, once all other shards are finished, and what a task raises.
        """


class ThisProcess:
    """This process works on one shard after another."""

    are_elsewhere = False

    def run(self, task: Task, shards: Shards) -> Iterator[tuple[int, Any]]:
        for shard, arguments in shards.items():
            yield shard, task(*arguments)


class Processes:
    """``count`` processes of this machine."""

    are_elsewhere = False

    def __init__(self, count: int) -> None:
        self._count = count
        self._open()

    def run(self, task: Task, shards: Shards) -> Iterator[tuple[int, Any]]:
        lost = yield from self._run_together(task, shards)
        given_up = []
        # Which of them ended its worker is not known. Alone it is, and has all of the memory.
        for shard in lost:
            for _ in range(ATTEMPTS - 1):
                if not (yield from self._run_together(task, {shard: shards[shard]})):
                    break
            else:
                given_up.append(shard)
        if given_up:
            raise LostShardError(given_up[0])

    def close(self) -> None:
        """End the processes, in the middle of a shard if need be."""
        for process in self._processes:
            process.kill()
        self._pool.shutdown(cancel_futures=True)

    def _run_together(self, task: Task, shards: Shards) -> Generator[tuple[int, Any], None, list[int]]:
        """Returns the shards whose worker was killed, and those that others worked on at that moment."""
        waiting, running, lost = iter(shards.items()), dict[Future[Any], int](), list[int]()
        while True:
            for shard, arguments in islice(waiting, self._count - len(running)):
                running[self._submit(task, arguments)] = shard
            if not running:
                return lost
            done = wait(running, return_when=FIRST_COMPLETED).done
            if any(isinstance(each.exception(), BrokenProcessPool) for each in done):
                done = wait(running).done  # all of them end
                self.close()
                self._open()
            finished = {running.pop(each): each for each in done}
            for shard, each in finished.items():
                if isinstance(each.exception(), BrokenProcessPool):
                    lost.append(shard)
                else:
                    yield shard, each.result()

    def _open(self) -> None:
        self._processes: set[BaseProcess] = set()
        # Spawned, not forked: a fork of a process with threads can hang.
        self._pool = ProcessPoolExecutor(self._count, get_context("spawn"), initializer=set_up_worker)

    def _submit(self, task: Task, arguments: Sequence[Any]) -> Future[Any]:
        # Ctrl-C reaches every process of the terminal, and this one ends the others. A process that is started here
        # inherits the mask, so it is deaf to it from its first moment.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        others = set(active_children())
        try:
            return self._pool.submit(task, *arguments)
        except BrokenProcessPool as problem:  # a worker died while there was nothing to do
            future: Future[Any] = Future()
            future.set_exception(problem)
            return future
        finally:
            self._processes |= set(active_children()) - others
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def processes_or_this(count: int) -> Iterator[Workers]:
    """``count`` processes, which end with the block; this process if there are none."""
    if not count:
        yield ThisProcess()
        return
    workers = Processes(count)
    try:
        yield workers
    finally:
        workers.close()
