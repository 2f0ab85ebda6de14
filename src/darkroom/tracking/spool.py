"""Operations that wait for a store, in a file, which survives the process and an unreachable store.

The file's first line names the store; each further line is one operation, as JSON. Beside it are the number of bytes
that the store has received (``.sent``) and copies of the files that operations name. The process that writes or sends
a spool holds a lock on it, which is released when the process ends, even by a kill.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, Self

Operation = dict[str, Any]
REFUSED = ".refused"


class Spool:
    """The operations for one experiment of one store. One thread may append while another one sends."""

    def __init__(self, path: Path, opened: FileIO, store: str, experiment: str) -> None:
        self.path = path
        self.store = store
        self.experiment = experiment
        self._opened = opened
        self._files = 0

    @classmethod
    def create(cls, directory: Path, store: str, experiment: str) -> Self:
        """A new spool in ``directory``, in a file whose name sorts by time."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{time.time_ns()}-{os.getpid()}.jsonl"
        opened = path.open("xb", buffering=0)
        fcntl.flock(opened, fcntl.LOCK_EX)
        opened.write(_line({"store": store, "experiment": experiment}))
        return cls(path, opened, store, experiment)

    @classmethod
    def left_behind(cls, directory: Path, *stores: str) -> Iterator[Self]:
        """The spools for a store of these names, or of any, that no process holds any more, the oldest first."""
        for path in sorted(directory.glob("*.jsonl")):
            with contextlib.suppress(FileNotFoundError), path.open("rb", buffering=0) as opened:
                try:
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    about = json.loads(opened.readline())
                except (BlockingIOError, ValueError):
                    continue  # its process is still running, or ended in the first line: there is nothing to send
                if not stores or about.get("store") in stores:
                    yield cls(path, opened, about["store"], about["experiment"])

    def append(self, operation: Operation) -> None:
        """Add an operation in one write: a kill leaves all of it or nothing.

        If it names a directory, its files are copied: by the time they are sent, the originals may have changed.
        """
        if "directory" in operation:
            self._files += 1
            copy = self._copies / str(self._files)
            shutil.copytree(operation["directory"], copy)
            operation = operation | {"directory": str(copy)}
        self._opened.write(_line(operation))

    def pending(self, after: int = 0) -> list[tuple[Operation, int]]:
        """The operations that were not sent yet, each with the number of bytes that are sent after it.

        ``after`` as many bytes: only what stands behind them.
        """
        with self.path.open("rb") as opened:
            head = len(opened.readline())
            position = max(head, self._taken(), after)
            opened.seek(position)
            found = []
            for line in opened:
                if not line.endswith(b"\n"):
                    break  # being written, or torn by the end of its process
                position += len(line)
                operation = json.loads(line)
                if "directory" in operation:  # where the copy lies now: the project may have been moved
                    operation["directory"] = str(self._copies / Path(operation["directory"]).name)
                found.append((operation, position))
        return found

    def mark_sent(self, position: int) -> None:
        """Record that the store has received everything before ``position``."""
        self._sent.write_text(str(position))

    def remove(self) -> None:
        """Remove the files: everything has been sent, or never will be."""
        shutil.rmtree(self._copies, ignore_errors=True)
        self._sent.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        self._opened.close()

    def set_aside(self) -> Path:
        """Keep the file under another name, which is never sent; returns its path."""
        aside = self.path.with_suffix(REFUSED)
        self.path.rename(aside)
        self._opened.close()
        return aside

    def close(self) -> None:
        """Release the spool: the next process can send it."""
        self._opened.close()

    def _taken(self) -> int:
        try:
            return int(self._sent.read_text())
        except (FileNotFoundError, ValueError):  # none yet, or torn: what is sent twice is there once
            return 0

    @property
    def _sent(self) -> Path:
        return self.path.with_suffix(".sent")

    @property
    def _copies(self) -> Path:
        return self.path.with_suffix("")


def _line(value: Operation) -> bytes:
    return json.dumps(value).encode() + b"\n"
