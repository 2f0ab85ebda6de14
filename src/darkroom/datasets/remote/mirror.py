"""Keep a directory the same as the files behind an address: only what has changed is downloaded, in parallel."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from darkroom.datasets.remote.journal import Entry, Journal
from darkroom.datasets.remote.listing import RemoteFile
from darkroom.datasets.remote.stores import in_parallel
from darkroom.datasets.remote.transfer import ReportBytes, fetch, is_small
from darkroom.datasets.source import ReportProgress
from darkroom.errors import counted


@dataclass(frozen=True)
class Changes:
    """The names of the files that a mirror has ``new``, with other content (``changed``), or no longer (``gone``)."""

    total: int
    new: Sequence[str]
    changed: Sequence[str]
    gone: Sequence[str]

    def __str__(self) -> str:
        """One line, such as "30 files: 2 new, 1 changed (such as cats/1.png), 27 as before"."""
        kept = self.total - len(self.new) - len(self.changed)
        parts = [f"{len(self.new):,} new"] if self.new else []
        for names, what in ((self.changed, "changed"), (self.gone, "gone")):
            parts += [f"{len(names):,} {what} (such as {names[0]})"] if names else []
        parts += [f"{kept:,} as before"] if kept else []
        return f"{counted(self.total, 'file')}: {', '.join(parts)}"


@dataclass(frozen=True)
class Mirror:
    """A directory: ``files`` in it are those behind an address, ``objects.csv`` their checksums.

    Files that are being downloaded lie outside of ``files``, each until it is complete.
    """

    root: Path

    @property
    def files(self) -> Path:
        return self.root / "files"

    @property
    def _parts(self) -> Path:
        return self.root / "parts"

    def synchronize(self, store: Any, wanted: Sequence[RemoteFile], report: ReportProgress) -> Changes:
        """Download what is missing or has changed, and remove what is gone. Raises DownloadError.

        What is downloaded before an error or a kill is not downloaded again.
        """
        with self._alone():
            journal = Journal(self.root / "objects.csv")
            known = dict(journal.entries)
            names = {file.name for file in wanted}
            gone = [name for name in known if name not in names]
            for name in gone:
                del journal.entries[name]
            self._remove_others(names)
            missing = [file for file in wanted if not self._has(file, known.get(file.name))]
            with journal.open():
                self._download(store, missing, journal, report)
            shutil.rmtree(self._parts, ignore_errors=True)
        new = [file.name for file in missing if file.name not in known]
        changed = [name for name, entry in known.items() if journal.entries.get(name, entry).md5 != entry.md5]
        return Changes(len(wanted), new, changed, gone)

    def _download(self, store: Any, missing: Sequence[RemoteFile], journal: Journal, report: ReportProgress) -> None:
        done, total = 0, sum(file.size or 0 for file in missing)

        def count(read: int) -> None:
            nonlocal done
            done += read
            report("download", done, total)

        def fetch_small(file: RemoteFile, ended: Event) -> int:
            return self._fetch(store, file, journal, lambda read: None, ended)

        for size in in_parallel(fetch_small, filter(is_small, missing)):
            count(size)
        for file in missing:
            if not is_small(file):
                self._fetch(store, file, journal, count)

    def _fetch(
        self, store: Any, file: RemoteFile, journal: Journal, report: ReportBytes, ended: Event | None = None
    ) -> int:
        """Download a file and note it in the ``journal``. Returns its size in bytes."""
        version = hashlib.sha256(f"{file.name}\0{file.size}\0{file.tag}".encode()).hexdigest()
        part, target = self._parts / version[:32], self.files / file.name
        entry = fetch(store, file, part, report, ended)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not flushed to the disk, which would take longer than all else: a file that a power failure has cut has
        # another size than the journal says.
        part.replace(target)
        journal.add(file.name, entry)
        return entry.size

    def _has(self, file: RemoteFile, entry: Entry | None) -> bool:
        if entry is None or _differs(file, entry):
            return False
        place = self.files / file.name
        return place.is_file() and place.stat().st_size == entry.size

    def _remove_others(self, names: set[str]) -> None:
        """Remove files that are not among ``names``, and folders that are empty then: those would be classes."""
        for directory, _, files in os.walk(self.files, topdown=False):
            here = Path(directory)
            for file in files:
                if (here / file).relative_to(self.files).as_posix() not in names:
                    (here / file).unlink()
            if not any(here.iterdir()):
                here.rmdir()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process changes the directory inside the block."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX)
            yield


def _differs(file: RemoteFile, entry: Entry | None) -> bool:
    """Whether a file is another one than was downloaded, or its server publishes nothing that tells."""
    return entry is not None and (not file.tag or file.tag != entry.tag or file.size not in (None, entry.size))
