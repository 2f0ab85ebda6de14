"""Answer shards by tasks of a Ray cluster.

Every node needs this package and reads the pictures by itself: from addresses, with the credentials in the environment
of its own Ray, or from a file system that the nodes share. It is sent the model, and sends back answers.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import chdir, contextmanager, nullcontext
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from darkroom.errors import DarkroomError, DataError, DownloadError, first_line
from darkroom.prediction.bulk import answer_alone
from darkroom.prediction.parts import Part, write
from darkroom.prediction.predictor import Predictor
from darkroom.prediction.shards import Shard
from darkroom.utils import ray_cluster
from darkroom.utils.console import warn
from darkroom.utils.files import atomic_file

OPTION = "--ray-address"
# A shard whose worker dies is answered again by another one, unless it is the shard that kills them.
RETRIES = 3
# Tasks that wait for each processor, so that none is idle while this process stores what another has answered.
AHEAD = 2


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to the cluster at ``address``: ``auto`` on one of its nodes, else host:port.

    Raises ConfigError if Ray is not installed, or if no cluster answers, and DataError if it has no processor.
    """
    with ray_cluster.connected(OPTION, address) as ray:
        if not _processors(ray):
            raise DataError(f"{OPTION}: no node of the cluster at {address} has a processor for tasks")
        if ray.available_resources().get("CPU", 0) < 1:
            warn(f"{OPTION}: the cluster at {address} is busy; waiting for a processor")
        yield ray


def answer_on(
    ray: Any, predictor: Predictor, parts: Iterable[Part], *, invert: bool | None, report: Callable[[int], None]
) -> None:
    """Write ``parts``, each answered by a task of the cluster.

    Raises DataError if a shard cannot be read on a node, or if its workers die again and again.
    """
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(_answer)
    # In a list Ray does not take it out for each task.
    model, directory, done = [ray.put(predictor)], Path.cwd(), 0
    coming = iter(parts)
    running: dict[Any, Part] = {}
    while True:
        for part in islice(coming, max(0, AHEAD * _processors(ray) - len(running))):
            running[task.remote(model, part.shard, invert, directory)] = part
        if not running:
            return
        for answered in ray.wait(list(running))[0]:
            part = running.pop(answered)
            try:
                content, pictures = ray.get(answered)
            except ray.exceptions.RayTaskError as problem:
                if isinstance(problem.cause, DarkroomError):
                    raise problem.cause from None
                raise
            except ray.exceptions.RayError as problem:
                raise DataError(
                    f"{part.shard.name}: {1 + RETRIES} workers of the cluster ended while they answered it "
                    f"({first_line(problem)}); answer it on this machine to see why"
                ) from None
            with atomic_file(part.path) as partial:
                partial.write_bytes(content)
            done += pictures
            report(done)


def _processors(ray: Any) -> int:
    """How many the cluster has now: it may grow."""
    return int(ray.cluster_resources().get("CPU", 0))


def _answer(model: Sequence[Any], shard: Shard, invert: bool | None, directory: Path) -> tuple[bytes, int]:
    """A task: the answers for a shard as the content of its part, and the number of pictures.

    Paths are relative to ``directory``, that of the command.
    """
    import pyarrow as pa

    predictor, content = _fetch(model[0]), pa.BufferOutputStream()
    with chdir(directory) if directory.is_dir() else nullcontext():
        if not shard.is_here():
            raise DataError(
                f"{shard.name}: not on the node {platform.node()}; the nodes read pictures from addresses, or at the "
                "same path as this command from a file system that they share"
            )
        try:
            pictures = write(content, answer_alone(predictor, shard, invert=invert), predictor.classes)
        except DownloadError as problem:
            raise DataError(f"{problem} (on the node {platform.node()})") from None
    return content.getvalue().to_pybytes(), pictures


@lru_cache(1)
def _fetch(reference: Any) -> Predictor:
    """The predictor behind a reference, once in a process of the cluster."""
    import ray

    predictor: Predictor = ray.get(reference)
    return predictor
