"""Shards of the pictures of `darkroom predict`: each is answered as a whole, here or by a worker elsewhere."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import uuid4

from darkroom.datasets.archives import read_images
from darkroom.datasets.remote.listing import RemoteFile
from darkroom.datasets.remote.stores import attempt, in_parallel, open_store
from darkroom.datasets.remote.transfer import fetch
from darkroom.errors import DataError
from darkroom.utils.scratch import scratch_directory

T = TypeVar("T")

# Pictures of a shard that is no archive: a second's work of one core, and more where they are photographs.
SHARD = 2048
NAMED = 5  # files that a message lists by name, at most


class Picture(NamedTuple):
    """One picture: its name ``file``, its path ``inside`` the argument, and its ``content``.

    Without ``content``, it is read from ``file``. ``inside`` has ``/`` between its folders.
    """

    file: str
    inside: str
    content: bytes | None = None


class Shard(Protocol):
    """Some of the pictures, in their order. It can be sent to another process, which reads them there."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def __iter__(self) -> Iterator[Picture]: ...

    def is_here(self) -> bool:
        """Whether this machine can see any of it."""
        ...

    def identity(self) -> list[Any]:
        """A value for JSON that is another one as soon as the pictures are."""
        ...


@dataclass(frozen=True)
class Files:
    """Files of this machine."""

    pictures: Sequence[Picture]

    @property
    def name(self) -> str:
        return f"{self.pictures[0].file} to {self.pictures[-1].file}"

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.pictures)

    def is_here(self) -> bool:
        return any(Path(picture.file).exists() for picture in self.pictures)

    def identity(self) -> list[Any]:
        return [_stamp(picture.file) for picture in self.pictures]


@dataclass(frozen=True)
class Archive:
    """Every image in a zip or tar archive of this machine, in its order."""

    path: Path
    encoding: str | None

    @property
    def name(self) -> str:
        return str(self.path)

    def __iter__(self) -> Iterator[Picture]:
        for name, content in read_images(self.path, encoding=self.encoding):
            yield Picture(f"{self.path}/{name}", name, content)

    def is_here(self) -> bool:
        return self.path.exists()

    def identity(self) -> list[Any]:
        return [*_stamp(self.name), self.encoding]


@dataclass(frozen=True)
class RemoteFiles:
    """Files of one store. They are read in parallel, and not kept."""

    files: Sequence[RemoteFile]

    @property
    def name(self) -> str:
        return f"{self.files[0].path} to {self.files[-1].path}"

    def __iter__(self) -> Iterator[Picture]:
        contents = in_parallel(partial(_read, open_store(self.files[0].path)), self.files)
        for file, content in zip(self.files, contents, strict=True):
            yield Picture(file.path, file.name, content)

    def is_here(self) -> bool:
        return True

    def identity(self) -> list[Any]:
        return [_tag(file) for file in self.files]


@dataclass(frozen=True)
class RemoteArchive:
    """Every image in an archive of a store, which is on this machine only while it is read."""

    file: RemoteFile
    encoding: str | None

    @property
    def name(self) -> str:
        return self.file.path

    def __iter__(self) -> Iterator[Picture]:
        with scratch_directory() as place:
            local = place / "archive"
            fetch(open_store(self.file.path), self.file, local, lambda read: None)
            try:
                for name, content in read_images(local, encoding=self.encoding):
                    yield Picture(f"{self.file.path}/{name}", name, content)
            except DataError as problem:
                raise DataError(str(problem).replace(str(local), self.file.path)) from None

    def is_here(self) -> bool:
        return True

    def identity(self) -> list[Any]:
        return [*_tag(self.file), self.encoding]


def in_shards(files: Iterable[T]) -> Iterator[list[T]]:
    """``files`` in lists of SHARD; the last may be shorter."""
    coming = iter(files)
    return iter(lambda: list(islice(coming, SHARD)), [])


def common_directory(paths: Sequence[str], separator: str = os.sep) -> str:
    """The directories, with the last separator, that all paths begin with; "" if they share none."""
    # What the first and the last in their order share, all share; a beginning of the very text, which Path may change.
    first, last = (path.split(separator)[:-1] for path in (min(paths), max(paths)))
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(part + separator for part, _ in shared)


def _read(store: Any, file: RemoteFile, ended: Event) -> bytes | None:
    """The content of a file; None if it is gone, so that it counts as a picture that cannot be read."""

    def read() -> bytes | None:
        try:
            content: bytes = store.cat_file(file.path)
        except FileNotFoundError:
            return None
        return content

    return attempt(read, file.path, ended)


def _stamp(path: str) -> list[Any]:
    try:
        found = Path(path).stat()
    except OSError:  # it is answered with the reason
        return [path]
    return [path, found.st_size, found.st_mtime_ns]


def _tag(file: RemoteFile) -> list[Any]:
    # Without a tag nobody knows whether it is still the same.
    return [file.path, file.size, file.tag or uuid4().hex]
