"""Workers as actors of a Ray cluster.

Every node needs this package, and the preprocessed images at the same path: a file system that the nodes share.
"""

import platform
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from darkroom.config import Config
from darkroom.errors import CacheError, SearchError
from darkroom.search.worker import Worker, WorkerCommand, WorkerResult
from darkroom.utils.console import warn
from darkroom.utils.ray_cluster import connected, named, room

# In which it starts the workers, where others use it too.
START_TIMEOUT_SECONDS = 120
# In which it starts a worker in place of one that died, while the search waits.
RESTART_TIMEOUT_SECONDS = 30


class WorkerActor:
    """A worker in the cluster. Its ``Worker`` is made by the first command, whose future can tell what is wrong."""

    def __init__(self, config: Config, directory: Path, *, fuses: bool) -> None:
        self._directory = directory
        self._worker = cache(partial(Worker, config, directory, fuses=fuses))
        torch.set_num_threads(config.search.worker_cpus)

    def start(self) -> None:
        """Answers once there was room for this worker."""

    def advance(self, command: WorkerCommand) -> WorkerResult:
        if not self._directory.is_dir():
            raise CacheError(
                f"{self._directory}: not on the node {platform.node()}; the workers of a cluster read the preprocessed "
                "images at the same path as the search, from a file system that the nodes share"
            )
        return self._worker().advance(command)


@contextmanager
def ray_slots(config: Config, directory: Path, workers: int, capacity: int) -> Iterator[list["RaySlot"]]:
    """Slots for ``workers`` workers in the cluster of search.ray_address, or in one that is started for them here.

    There are fewer, with a warning, if the cluster has no room for so many. All of them end with the block, and so
    does the cluster that was started here.

    Raises ConfigError if Ray is not installed or the cluster does not answer, SearchError if it has no room for any.
    """
    search = config.search
    cpus = workers * search.worker_cpus if search.workers != "auto" else 0
    with connected("search.ray_address", search.ray_address, cpus, asked_by="search.executor") as ray:
        cluster = Cluster(ray, config, directory.resolve(), capacity)
        cluster.open(workers)
        yield cluster.slots


class Cluster:
    """Has room for workers, until it loses nodes."""

    def __init__(self, ray: Any, config: Config, directory: Path, capacity: int) -> None:
        self.ray = ray
        self.config = config
        self.capacity = capacity
        self.slots: list[RaySlot] = []
        self._actor = ray.remote(num_cpus=config.search.worker_cpus, num_gpus=config.search.worker_gpus)(WorkerActor)
        self._directory = directory

    def open(self, workers: int) -> None:
        """Take slots for up to ``workers`` workers."""
        tried = [RaySlot(self) for _ in range(min(workers, self.room()))]
        starts = {slot.actor.start.remote(): slot for slot in tried}
        started, late = (
            self.ray.wait(list(starts), num_returns=len(tried), timeout=START_TIMEOUT_SECONDS) if tried else ([], [])
        )
        for each in late:
            self.ray.kill(starts[each].actor)
        self.slots = [starts[each] for each in started]
        if not self.slots:
            raise SearchError(f"{self._where()} has no room for a worker, {self._needs()}")
        # Of workers that nobody counted as many are taken as there is room for.
        if len(self.slots) < workers and self.config.search.workers != "auto":
            warn(f"{self._where()} has room for {len(self.slots)} of {workers} workers, {self._needs()}")

    def room(self) -> int:
        """How many workers its nodes can hold, if nobody else uses them."""
        search = self.config.search
        return room(self.ray, search.worker_cpus, search.worker_gpus)

    def new_actor(self) -> Any:
        return self._actor.remote(self.config, self._directory, fuses=self.capacity > 1)

    def restarts(self, actor: Any) -> bool:
        """Whether there is room for the actor that takes a dead one's place: its node may have died with it."""
        start, deadline = actor.start.remote(), time.monotonic() + RESTART_TIMEOUT_SECONDS
        while self.room() >= sum(slot.capacity > 0 for slot in self.slots) and time.monotonic() < deadline:
            if self.ray.wait([start], num_returns=1, timeout=1)[0]:
                return True
        return False

    def leave(self, slot: "RaySlot") -> None:
        """Give up a slot for good. Raises SearchError if it was the last."""
        slot.capacity = 0
        left = sum(each.capacity > 0 for each in self.slots)
        if not left:
            raise SearchError(f"{self._where()} has no room for a worker any more, {self._needs()}")
        warn(f"{self._where()} has room for {left} workers only: where one died, no other could be started")

    def _where(self) -> str:
        return f"search.ray_address: {named(self.config.search.ray_address)}"

    def _needs(self) -> str:
        search = self.config.search
        return (
            f"which needs {search.worker_cpus} CPUs and {search.worker_gpus:g} GPUs of a node that are free; "
            "see search.worker_cpus and search.worker_gpus"
        )


class RaySlot:
    """A worker somewhere in the cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.capacity = cluster.capacity
        self.lost: tuple[type[BaseException], ...] = (cluster.ray.exceptions.RayActorError,)
        self.actor = cluster.new_actor()
        self._cluster = cluster

    def submit(self, command: WorkerCommand) -> Future[WorkerResult]:
        answer: Future[WorkerResult] = Future()
        self.actor.advance.remote(command).future().add_done_callback(partial(_hand_over, answer))
        return answer

    def restart(self) -> None:
        # It may be alive beyond a network that is not.
        self._cluster.ray.kill(self.actor)
        self.actor = self._cluster.new_actor()
        if not self._cluster.restarts(self.actor):
            self._cluster.ray.kill(self.actor)
            self._cluster.leave(self)


def _hand_over(answer: Future[WorkerResult], done: Future[WorkerResult]) -> None:
    problem = done.exception()
    if problem is None:
        answer.set_result(done.result())
    else:
        # Ray wraps what a worker raises, and makes a page of its message.
        answer.set_exception(getattr(problem, "cause", None) or problem)
