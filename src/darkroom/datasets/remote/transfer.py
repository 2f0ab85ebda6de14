"""Read one remote file to this machine: in parts that outlive a kill, with its checksum verified."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

from darkroom.config.addresses import WEB
from darkroom.datasets.remote.journal import Entry
from darkroom.datasets.remote.listing import RemoteFile
from darkroom.datasets.remote.stores import HEADERS, WORKERS, attempt, diagnose, in_parallel
from darkroom.errors import DownloadError

# A larger file is read in parts of so many bytes.
PART_BYTES = 8 << 20
PARTIAL_CONTENT = 206
ReportBytes = Callable[[int], None]


def is_small(file: RemoteFile) -> bool:
    """Whether a file is read at once, beside others."""
    return file.size is not None and file.size <= PART_BYTES


def fetch(store: Any, file: RemoteFile, part: Path, report: ReportBytes, ended: Event | None = None) -> Entry:
    """Download ``file`` to ``part``, which may hold the beginning of it already, and verify it.

    Raises DownloadError if it cannot be read, has changed since it was listed, or arrives damaged.
    """
    before = ""
    while True:
        _read(store, file, part, report, ended)
        with part.open("rb") as opened:
            md5 = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        entry = Entry(part.stat().st_size, file.tag, md5)
        is_whole = file.size in (None, entry.size)
        if is_whole and file.md5 in ("", md5):
            if not is_small(file):  # its parts may be those of two versions
                _refuse_changed(store, file, part, ended)
            return entry
        _refuse_changed(store, file, part, ended)
        if is_whole and md5 == before and file.path.startswith("s3://"):
            return entry  # the same twice: the ETag of a bucket with its own key is no MD5
        part.unlink()
        if before:
            raise DownloadError(
                f"{file.path}: arrives damaged ({entry.size:,} bytes, MD5 {md5}, expected {file.size or 0:,} bytes and "
                f"{file.md5 or 'any'}); run the command again, and compare it with its origin if that does not help"
            )
        before = md5


def _read(store: Any, file: RemoteFile, part: Path, report: ReportBytes, ended: Event | None) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    if is_small(file):
        part.write_bytes(attempt(lambda: store.cat_file(file.path), file.path, ended))
        report(part.stat().st_size)
    elif file.path.startswith(WEB):
        _stream(store, file, part, report, ended)
    else:
        _read_parts(store, file, part, report)


def _read_parts(store: Any, file: RemoteFile, part: Path, report: ReportBytes) -> None:
    """Read what ``part`` lacks, several ranges at a time; whatever is written is a beginning of the file."""
    assert file.size is not None, "object stores list sizes"

    def read(start: int, ended: Event) -> bytes:
        stop = min(start + PART_BYTES, file.size or 0)

        def read_range() -> bytes:
            content: bytes = store.cat_file(file.path, start=start, end=stop)
            if len(content) != stop - start:
                raise ConnectionError
            return content

        return attempt(read_range, file.path, ended)

    with part.open("ab") as written:
        report(written.tell())
        for content in in_parallel(read, range(written.tell(), file.size, PART_BYTES), ahead=WORKERS):
            written.write(content)
            report(len(content))


def _stream(store: Any, file: RemoteFile, part: Path, report: ReportBytes, ended: Event | None) -> None:
    """Read what ``part`` lacks from a web server, or all if the server cannot begin in the middle."""
    if not file.tag:  # what lies there may be of another version
        part.unlink(missing_ok=True)

    def read_on() -> bool:
        """Read to the end. Returns whether that was reached: False if the connection broke after some bytes."""
        with part.open("ab") as written:
            start = written.tell()
            if start == file.size:
                return True
            try:
                with store.open(
                    file.path,
                    block_size=0,
                    size=file.size or -1,
                    headers=HEADERS | ({"Range": f"bytes={start}-"} if start else {}),
                ) as content:
                    if start and content.r.status != PARTIAL_CONTENT:
                        written.truncate(0)
                    while chunk := content.read(PART_BYTES):
                        written.write(chunk)
                        report(len(chunk))
                if file.size is not None and written.tell() < file.size:
                    raise ConnectionError
            except Exception as problem:
                trouble = diagnose(problem)
                if trouble and trouble.is_passing and written.tell() > start:
                    return False
                raise
        return True

    while not attempt(read_on, file.path, ended):
        pass


def _refuse_changed(store: Any, file: RemoteFile, part: Path, ended: Event | None) -> None:
    now = RemoteFile.of(file.name, file.path, attempt(lambda: store.info(file.path), file.path, ended))
    if (now.tag, now.size) != (file.tag, file.size):
        part.unlink()
        raise DownloadError(
            f"{file.path}: changed while it was downloaded; run the command again once nobody writes there"
        )
