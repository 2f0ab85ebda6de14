"""Which files have been downloaded, with their checksums: written while the download goes on, read after a kill."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from darkroom.utils.csv_files import write_csv
from darkroom.utils.files import atomic_file

HEADER = ("file", "bytes", "tag", "md5")


class Entry(NamedTuple):
    """A downloaded file: its size in bytes, what its server published of its content, and the MD5 of its bytes."""

    size: int
    tag: str
    md5: str


class Journal:
    """The downloaded files by their names, in a CSV file that grows by a line for each. Threads may add to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries = _read(path)
        self._lock = Lock()

    @contextmanager
    def open(self) -> Iterator["Journal"]:
        """Write what is known of, and add what ``add`` is given in the block."""
        with atomic_file(self.path) as partial:  # without the half of a line that a kill may have left
            write_csv(partial, HEADER, ((name, *entry) for name, entry in self.entries.items()))
        with self.path.open("a", newline="", encoding="utf-8") as self._opened:
            self._table = csv.writer(self._opened)
            yield self

    def add(self, name: str, entry: Entry) -> None:
        with self._lock:
            self.entries[name] = entry
            self._table.writerow((name, *entry))
            self._opened.flush()


def _read(path: Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    with suppress(FileNotFoundError), path.open(newline="", encoding="utf-8") as opened:
        rows = csv.reader(opened)
        with suppress(csv.Error, ValueError):
            next(rows, None)
            for name, size, tag, md5 in rows:
                entries[name] = Entry(int(size), tag, md5)
    return entries
