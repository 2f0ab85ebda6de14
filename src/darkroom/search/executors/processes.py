"""Workers in processes of their own, each with its share of this machine.

The images are mapped from the same files by all of them, so the system holds them in memory once.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import active_children, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from darkroom.config import Config
from darkroom.search.worker import Worker, WorkerCommand, WorkerResult
from darkroom.training.device import choose_device, cores
from darkroom.utils.signals import held_back


@dataclass(frozen=True)
class Resources:
    """What of this machine one worker gets: processors by number, and a GPU as CUDA_VISIBLE_DEVICES names it."""

    cores: tuple[int, ...]
    gpu: str | None = None


def divide(cores: Sequence[int], gpus: Sequence[str], workers: int) -> list[Resources]:
    """Shares for ``workers`` workers: neighboring cores, or one in turn if they are too few; GPUs in turn."""
    shares = []
    for worker in range(workers):
        first, end = (len(cores) * count // workers for count in (worker, worker + 1))
        own = cores[first:end] if workers < len(cores) else [cores[worker % len(cores)]]
        shares.append(Resources(tuple(own), gpus[worker % len(gpus)] if gpus else None))
    return shares


@contextmanager
def process_slots(config: Config, directory: Path, workers: int, capacity: int) -> Iterator[list["ProcessSlot"]]:
    """A slot for each of ``workers`` processes on the cache in ``directory``. All of them end with the block."""
    on_gpu = choose_device(config.train.device).type == "cuda"
    shares = divide(cores(), _gpus() if on_gpu else (), workers)
    with ExitStack() as slots:
        yield [slots.enter_context(closing(ProcessSlot(config, directory, capacity, share))) for share in shares]


def _gpus() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


class ProcessSlot:
    """A worker in a process of its own, which starts with the first command."""

    lost: tuple[type[BaseException], ...] = (BrokenProcessPool,)

    def __init__(self, config: Config, directory: Path, capacity: int, share: Resources) -> None:
        self.capacity = capacity
        self._make_worker = partial(Worker, config, directory, fuses=capacity > 1)
        self._share = share
        self._open()

    @held_back()
    def submit(self, command: WorkerCommand) -> Future[WorkerResult]:
        try:
            return self._submit(command)
        except BrokenProcessPool as problem:  # it died while there was nothing to do
            future: Future[WorkerResult] = Future()
            future.set_exception(problem)
            return future

    def restart(self) -> None:
        self.close()
        self._open()

    @held_back()
    def close(self) -> None:
        """End the worker, in the middle of an epoch if need be."""
        self._lifeline.close()
        for process in self._processes:
            process.kill()  # one that still imports torch does not watch its lifeline
        self._pool.shutdown()

    def _open(self) -> None:
        context = get_context("spawn")
        watched, self._lifeline = context.Pipe(duplex=False)
        self._processes: list[BaseProcess] = []
        self._pool = ProcessPoolExecutor(
            max_workers=1,
            mp_context=context,
            initializer=_set_up,
            initargs=(watched, self._share, self._make_worker),
        )

    def _submit(self, command: WorkerCommand) -> Future[WorkerResult]:
        # Ctrl-C reaches every process of the terminal, and this one alone decides what it means. The process that
        # is started here inherits the mask, so it is deaf to it from its first moment.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        others = set(active_children())
        try:
            submitted = self._pool.submit(_advance, command)
            self._processes += set(active_children()) - others
            return submitted
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


_worker: Callable[[], Worker]


def _set_up(lifeline: Connection, share: Resources, make_worker: Callable[[], Worker]) -> None:
    """Make this process a worker. Its ``Worker`` is made by the first command, whose future can tell what is wrong."""
    global _worker
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share.cores)
    torch.set_num_threads(len(share.cores))
    if share.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = share.gpu
    _worker = cache(make_worker)


def _end_with(lifeline: Connection) -> None:
    """End this process when the other end of ``lifeline`` is closed, as it is when the process that holds it dies."""
    lifeline.poll(None)
    os._exit(0)


def _advance(command: WorkerCommand) -> WorkerResult:
    return _worker().advance(command)
