"""The nodes of a Ray cluster as workers: a task for each shard.

Every node needs this package, and the packed images at the same path: a file system that the nodes share. Pixels come
back through Ray, as several machines that write to one file may overwrite each other's pages.
"""

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from darkroom.datasets.decoding import versions
from darkroom.datasets.workers import ATTEMPTS, LostShardError, Shards, Task
from darkroom.errors import DataError
from darkroom.utils.ray_cluster import connected, named

# Shards for each processor of the cluster: the next one is there when one ends.
AHEAD = 2


@contextmanager
def ray_workers(address: str | None, archive: Path) -> Iterator["RayWorkers"]:
    """The cluster at ``address``, or one that is started here. Its work on ``archive`` ends with the block.

    Raises ConfigError if Ray is not installed, or if the cluster does not answer.
    """
    with connected("preprocess.ray_address", address, asked_by="preprocess.executor") as ray:
        yield RayWorkers(ray, address, archive)


class RayWorkers:
    """All processors of a cluster. Ray itself tries a shard again whose worker or node is lost."""

    are_elsewhere = True

    def __init__(self, ray: Any, address: str | None, archive: Path) -> None:
        self._ray, self._address, self._archive = ray, address, archive
        self._task = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(on_node)
        self._versions = versions()

    def run(self, task: Task, shards: Shards) -> Iterator[tuple[int, Any]]:
        waiting, running, lost = iter(shards.items()), dict[Any, int](), list[int]()
        while True:
            for shard, arguments in islice(waiting, max(0, self._room() - len(running))):
                running[self._task.remote(task, arguments, self._archive, self._versions)] = shard
            if not running:
                break
            ((done,), _) = self._ray.wait(list(running))
            shard = running.pop(done)
            try:
                result = self._ray.get(done)
            except self._ray.exceptions.RayTaskError as problem:
                raise problem.cause from None
            except self._ray.exceptions.RayError:
                lost.append(shard)
            else:
                yield shard, result
        if lost:
            raise LostShardError(lost[0])

    def _room(self) -> int:
        cpus = int(self._ray.cluster_resources().get("CPU", 0))
        if not cpus:
            raise DataError(
                f"preprocess.ray_address: {named(self._address)} has no processor for "
                "preprocessing; add a node and run `darkroom preprocess` again, which resumes"
            )
        return AHEAD * cpus


def on_node(task: Task, arguments: Sequence[Any], archive: Path, expected: Mapping[str, str]) -> Any:
    """What ``task`` returns for ``arguments``.

    Raises DataError if ``archive`` is not on this node, or if its pixels would differ from those of ``expected``
    versions.
    """
    if not archive.is_file():
        raise DataError(
            f"{archive}: not on the node {platform.node()}; the nodes of a cluster read the packed images at the same "
            "path as this machine, from a file system that they share"
        )
    found = versions()
    if differing := [name for name in expected if found.get(name) != expected[name]]:
        name = differing[0]
        raise DataError(
            f"the node {platform.node()} has {name} {found.get(name)}, and this machine {expected[name]}, which may "
            "decode images differently; install the same version on all nodes"
        )
    return task(*arguments)
