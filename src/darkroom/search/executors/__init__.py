"""Where workers run: in this process, in others of this machine, or in a cluster."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from darkroom.config import Config
from darkroom.search.executors.inline import InlineSlot, WorkerSlot
from darkroom.search.executors.processes import process_slots

__all__ = ["InlineSlot", "WorkerSlot", "open_slots"]


@contextmanager
def open_slots(config: Config, directory: Path, workers: int, capacity: int) -> Iterator[Sequence[WorkerSlot]]:
    """Places for ``workers`` workers on the cache in ``directory``, where search.executor says.

    Each worker trains up to ``capacity`` configurations at once. All of them end with the block, however it ends.
    A cluster may have room for fewer.

    Raises ConfigError if there is no cluster, SearchError if there is no room in it.
    """
    if config.search.executor == "ray":
        from darkroom.search.executors.ray_cluster import ray_slots

        with ray_slots(config, directory, workers, capacity) as cluster:
            yield cluster
    elif workers == 1:
        yield [InlineSlot(config, directory, capacity)]
    else:
        with process_slots(config, directory, workers, capacity) as processes:
            yield processes
