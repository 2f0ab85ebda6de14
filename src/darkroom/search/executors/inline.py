"""A worker in this process, and what every place for a worker offers."""

from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from darkroom.config import Config
from darkroom.search.worker import Worker, WorkerCommand, WorkerResult


class WorkerSlot(Protocol):
    """A place for one worker, which trains up to ``capacity`` configurations at once; 0 if the place is gone.

    A future whose exception is one of ``lost`` says that the worker has died; ``restart`` puts another in its place.
    """

    capacity: int
    lost: tuple[type[BaseException], ...]

    def submit(self, command: WorkerCommand) -> Future[WorkerResult]: ...

    def restart(self) -> None: ...


class InlineSlot:
    """A worker in this process: each round is over when ``submit`` returns."""

    lost: tuple[type[BaseException], ...] = ()

    def __init__(self, config: Config, directory: Path, capacity: int = 1) -> None:
        self.capacity = capacity
        self._worker = Worker(config, directory, fuses=capacity > 1)

    def submit(self, command: WorkerCommand) -> Future[WorkerResult]:
        future: Future[WorkerResult] = Future()
        future.set_result(self._worker.advance(command))
        return future

    def restart(self) -> None:
        raise AssertionError("this process is not lost")
