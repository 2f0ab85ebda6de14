"""Download published files: mirrors first, checksums always verified, no partial files."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pooch
import requests

from darkroom.config.addresses import redact
from darkroom.errors import DownloadError
from darkroom.utils.scratch import scratch_directory

ATTEMPTS = 3
TIMEOUT_SECONDS = 30
# What opening a file of a mirror may raise; any other OSError is trouble with the target.
UNREADABLE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)


class DownloadProgress:
    """A progress bar for pooch that calls a callback with (bytes so far, bytes in total)."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self.report = report
        self.total = 0

    @property
    def total(self) -> int:
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        # pooch sets it at the beginning of each attempt.
        self._total = total
        self.done = 0

    def update(self, count: int) -> None:
        # pooch counts whole chunks, the last one too.
        self.done = min(self.done + count, self.total) if self.total else self.done + count
        self.report(self.done, self.total)

    def reset(self) -> None:
        # pooch resets before it fills the bar up once more at the end.
        self.done = 0

    def close(self) -> None:
        pass


def fetch(
    name: str,
    md5: str,
    sources: Sequence[str],
    directory: Path,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """Download the file ``name`` to ``directory`` from the first of ``sources`` that has it.

    ``sources`` are prefixes: directories, or http, https and file URLs. The file appears under its
    name only when it is complete and its MD5 is ``md5``; one that is already there and correct is kept.

    Returns where the file came from, without a password. Raises DownloadError if no source gave the published file.
    """
    target = directory / name
    if target.is_file() and is_published(target, md5):
        return str(target)
    target.unlink(missing_ok=True)  # whatever lies there is not the published file
    directory.mkdir(parents=True, exist_ok=True)
    pooch.get_logger().setLevel("WARNING")
    failures = []
    # Beside the directory: what a kill leaves in it would count as the dataset's.
    with scratch_directory(directory.resolve().parent) as place:
        for source in sources:
            address = f"{source.rstrip('/')}/{name}"
            local = local_path(address)
            shown = address if local else redact(address)  # DARKROOM_MIRROR may hold a password
            # An absent local file stays absent: only what crosses a network is worth another attempt.
            attempts = 0 if local else ATTEMPTS - 1
            registry = pooch.create(place, base_url="", registry={name: f"md5:{md5}"}, retry_if_failed=attempts)
            registry.urls = {name: address}
            download = (
                copy_file
                if local
                else pooch.HTTPDownloader(progressbar=DownloadProgress(report), timeout=TIMEOUT_SECONDS)
            )
            try:
                registry.fetch(name, downloader=download)
            except (requests.RequestException, *UNREADABLE) as problem:
                failures.append(f"{shown} ({_reason(problem)})")
            except ValueError:  # pooch's word for a wrong hash; the file is already removed
                failures.append(f"{shown} (wrong checksum: not the published file; removed)")
            else:
                (place / name).replace(target)
                return shown
    raise DownloadError(
        f"{name}: not available from {'; '.join(failures)}; check the connection, or set dataset.mirror "
        f"(or DARKROOM_MIRROR) to a directory or URL that holds {directory.name}/{name}"
    )


def is_published(path: Path, md5: str) -> bool:
    """Whether the file's MD5, the checksum these datasets are published with, is ``md5``."""
    return bool(pooch.file_hash(str(path), alg="md5") == md5)


def local_path(address: str) -> Path | None:
    """The path of a local address, or None for a URL that needs the network."""
    parts = urlsplit(address)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if parts.scheme in {"http", "https"} else Path(address).expanduser()


def copy_file(address: str, output: Any, registry: pooch.Pooch) -> None:
    """A pooch downloader for directories and file:// URLs."""
    path = local_path(address)
    assert path is not None, "network addresses have pooch's own downloader"
    shutil.copyfile(path, output)


def _reason(problem: Exception) -> str:
    match problem:
        case requests.HTTPError(response=requests.Response(status_code=status)):
            return f"HTTP {status}"
        case requests.Timeout():
            return f"no answer within {TIMEOUT_SECONDS} s"
        case requests.exceptions.ChunkedEncodingError():
            return "connection broken off"
        case requests.ConnectionError():
            return "host unreachable"
        case OSError(strerror=str(reason)):
            return reason.lower()
        case _:
            return redact(str(problem))
