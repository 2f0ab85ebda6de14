"""Temporary files and directories, named after the process that works in them, and those that one process leaves to
the next.

A process that is killed leaves the former behind; the next process that works in the same directory removes them.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from darkroom.errors import DataError
from darkroom.utils.process_id import is_gone, this_process

SUFFIX = ".partial"
# A colon, which `this_process` puts between its parts, is not allowed in the names of every file system.
SEPARATOR = "~"
NAME = re.compile(rf"\.darkroom\.(.+{SEPARATOR}\d+{SEPARATOR}\d+)\.\w+{re.escape(SUFFIX)}")


@contextmanager
def scratch_file(place: Path) -> Iterator[Path]:
    """Yield an empty file in ``place``, which only this user can read. It is removed if it is still there then."""
    remove_abandoned(place)
    handle, name = tempfile.mkstemp(dir=place, prefix=_prefix(), suffix=SUFFIX)
    os.close(handle)
    file = Path(name)
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def scratch_directory(place: Path | None = None) -> Iterator[Path]:
    """Yield an empty directory in ``place``, else in the system's temporary directory. It is removed in the end."""
    place = place or Path(tempfile.gettempdir())
    remove_abandoned(place)
    with tempfile.TemporaryDirectory(dir=place, prefix=_prefix(), suffix=SUFFIX) as name:
        yield Path(name)


@contextmanager
def kept_directory(path: Path) -> Iterator[Path]:
    """Yield the directory ``path``, in which a block that fails or is killed leaves its files to the next one.

    It is removed when a block succeeds. Raises DataError while another process is in such a block.
    """
    path.mkdir(parents=True, exist_ok=True)
    opened = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{path}: another process works in it; wait until it has ended") from None
        try:
            yield path
            shutil.rmtree(path)
        finally:
            with suppress(OSError):  # there are files, or none of it is left
                path.rmdir()
    finally:
        os.close(opened)


def abandoned(place: Path) -> list[Path]:
    """The files in ``place`` of processes of this machine and this user that have ended."""
    found = []
    with suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            named = NAME.fullmatch(entry.name)
            with suppress(OSError):  # another process may be quicker
                is_own = named and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
                if named and is_own and is_gone(named[1].replace(SEPARATOR, ":")):
                    found.append(Path(entry))
    return found


def remove_abandoned(place: Path) -> None:
    """Remove what is ``abandoned``."""
    for path in abandoned(place):
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _prefix() -> str:
    return f".darkroom.{this_process().replace(':', SEPARATOR)}."
