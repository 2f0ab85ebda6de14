"""Shards that are not on this machine, from the project's DVC remote, in a directory of bounded size."""

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from darkroom.data.shards import Shard, check_content, shard_bytes
from darkroom.errors import CacheError, first_line
from darkroom.utils.files import atomic_file

# Downloads at a time.
WORKERS = 2


class ShardStore:
    """The shards of the dataset in ``directory``, images of ``shape`` (channels, height, width).

    Those that are not there are downloaded to ``place``, ahead of their use, where they take at most ``capacity``
    bytes. ``known`` are all that may be in ``place`` already. ``root`` is the project, whose DVC remote they come from.
    """

    def __init__(
        self,
        root: Path,
        directory: Path,
        place: Path,
        shape: tuple[int, ...],
        capacity: int,
        known: Sequence[Shard] = (),
    ) -> None:
        self.capacity, self.shape = capacity, shape
        self._root, self._directory, self._place = root, directory, place
        self._pool = ThreadPoolExecutor(WORKERS)
        self._held: dict[str, tuple[Shard, Future[Path]]] = {}
        # Files whose place may be taken by others, those that were not used for the longest time first.
        self._released: dict[str, None] = {}
        self._kept: set[str] = set()
        self._wanted: deque[Shard] = deque()
        for shard in known:
            if (place / shard.file).exists():
                self._fetch(shard)
                self.release([shard])

    def has(self, shard: Shard) -> bool:
        """Whether the shard is in the dataset's own directory."""
        return (self._directory / shard.file).exists()

    def keep(self, shard: Shard) -> Path:
        """The directory that holds a shard, which is never removed. Raises CacheError."""
        self._kept.add(shard.file)
        return self.get(shard)

    def room(self) -> int:
        """The bytes that are left for shards that are not kept."""
        return self.capacity - sum(
            shard_bytes(shard, self.shape) for shard in self._shards() if shard.file in self._kept
        )

    def expect(self, shards: Iterable[Shard]) -> None:
        """Download ``shards`` in this order, as far ahead as there is room for."""
        self._wanted = deque(shard for shard in shards if not self.has(shard))
        self._fetch_ahead()

    def release(self, shards: Iterable[Shard]) -> None:
        """Say that ``shards`` are not needed until they are expected again."""
        self._released |= {shard.file: None for shard in shards if shard.file in self._held.keys() - self._kept}
        self._fetch_ahead()

    def get(self, shard: Shard) -> Path:
        """The directory that holds a shard, once it has arrived. Raises CacheError."""
        if self.has(shard):
            return self._directory
        self._released.pop(shard.file, None)
        if shard.file not in self._held:
            self._make_room(shard)
            self._fetch(shard)
        return self._held[shard.file][1].result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _fetch_ahead(self) -> None:
        while self._wanted:
            shard = self._wanted[0]
            self._released.pop(shard.file, None)
            if shard.file not in self._held:
                if not self._make_room(shard):
                    return
                self._fetch(shard)
            self._wanted.popleft()

    def _make_room(self, shard: Shard) -> bool:
        """Remove released files until there is room for ``shard``. Returns whether there is."""
        while sum(shard_bytes(held, self.shape) for held in (shard, *self._shards())) > self.capacity:
            name = next(iter(self._released), None)
            if name is None:
                return False
            del self._released[name]
            self._held.pop(name)[1].cancel()
            (self._place / name).unlink(missing_ok=True)
        return True

    def _shards(self) -> list[Shard]:
        return [shard for shard, _ in self._held.values()]

    def _fetch(self, shard: Shard) -> None:
        self._held[shard.file] = shard, self._pool.submit(self._download, shard)

    @cached_property
    def _remote(self) -> Any:
        """DVC's file system of the project, which reads what is not in DVC's cache from the default remote."""
        import fsspec

        return fsspec.filesystem("dvc", url=str(self._root))

    def _download(self, shard: Shard) -> Path:
        path = self._place / shard.file
        if path.exists():  # of an earlier training
            try:
                check_content(path, shard)
                return self._place
            except CacheError:
                path.unlink()
        directory = self._directory.resolve().relative_to(self._root.resolve())
        try:
            with atomic_file(path) as partial:
                self._remote.get_file((directory / shard.file).as_posix(), str(partial))
                check_content(partial, shard)
        except CacheError:
            raise CacheError(
                f"{self._directory / shard.file}: the DVC remote has another file than dataset.json names; run "
                "`dvc push` where the images are, and `git pull` here"
            ) from None
        except Exception as problem:  # of many kinds: DVC's, and those of every kind of store
            raise CacheError(
                f"{self._directory / shard.file}: neither here nor to be had from the DVC remote "
                f"({first_line(problem)}); run `dvc push` where the images are, or check `dvc remote list` here"
            ) from problem
        return self._place
