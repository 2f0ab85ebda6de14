"""Which shards of a dataset are finished, and what was found in them: written as work goes on, read after a kill."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


class Journal:
    """``results``, JSON values by name, in a file that grows by a line for each.

    Its first line is a ``key`` of all that the results depend on. A file of another key holds none.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.results, self._size = _read(path, key)

    def clear(self) -> None:
        """Forget all results."""
        self.path.unlink(missing_ok=True)
        self.results, self._size = {}, 0

    def shards(self) -> list[int]:
        """The finished shards, by their numbers, which are names too."""
        return sorted(name for name in self.results if isinstance(name, int))

    def by_shard(self) -> list[Any]:
        """The results of the shards, in their order."""
        return [self.results[shard] for shard in self.shards()]

    @contextmanager
    def open(self) -> Iterator[None]:
        """Add what ``add`` is given in the block."""
        with self.path.open("ab") as self._opened:
            self._opened.truncate(self._size)  # half of a line that a kill may have left
            if not self._size:
                self._write(self.key)
            yield
            os.fsync(self._opened.fileno())

    def add(self, name: int | str, result: Any) -> None:
        self.results[name] = result
        self._write([name, result])

    def _write(self, value: Any) -> None:
        self._size += self._opened.write(_line(value))
        self._opened.flush()


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _read(path: Path, key: str) -> tuple[dict[int | str, Any], int]:
    """The results in a file, and where their lines end."""
    results: dict[int | str, Any] = {}
    with suppress(FileNotFoundError), path.open("rb") as opened:
        size = len(first := opened.readline())
        if first != _line(key):
            return {}, 0
        for line in opened:
            try:
                name, result = json.loads(line)
            except (ValueError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            results[name] = result
            size += len(line)
        return results, size
    return {}, 0
