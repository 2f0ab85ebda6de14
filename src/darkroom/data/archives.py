"""A folder of images, however it is brought, packed into one plain archive.

A directory of 60,000 small files is slow to hash, copy and cache; one uncompressed zip of the same
bytes, in sorted order and without dates, is quick and always the same for the same images. (Members
of a tar keep its order: it can only be read from front to back.)
"""

import bz2
import errno
import gzip
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, NoReturn

from darkroom.data.images import is_image_name
from darkroom.errors import DataError
from darkroom.files import atomic_file

MAX_FILES = 5_000_000
MAX_FILE_BYTES = 1 << 30
MAX_TOTAL_BYTES = 1 << 40
EPOCH = (1980, 1, 1, 0, 0, 0)

# What the standard library raises for damaged archives, often not before a member's content is read.
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    IndexError,
    UnicodeDecodeError,
    RuntimeError,
)
# Without a number an OSError is a decompressor's word for bad data; EINVAL comes of seeking where no file reaches.
NOT_THE_DISK = (None, errno.EINVAL)
COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open, b"]\x00": lzma.open}

Member = tuple[str, IO[bytes]]
Report = Callable[[int], None]


def pack(source: Path, target: Path, report: Report = lambda count: None) -> int:
    """Pack every image below ``source``, a directory or a zip or tar archive, into the zip ``target``.

    Names in the zip are relative to ``source``, with ``/`` between parts. Other files are left out.

    Returns the number of images. Raises DataError if ``source`` is missing, is neither a directory nor
    a readable archive, holds no image, or holds a member that leads outside, is a link, is too large, or
    is there twice. ``target`` is then left as it was.
    """
    if not source.exists():
        raise DataError(f"{source}: not found; set dataset.path to a directory, or a zip or tar archive, of images")
    names: set[str] = set()
    total = 0
    with _intact(source), atomic_file(target) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as packed:
        for name, content in _members(source):
            if len(names) == MAX_FILES:
                raise DataError(f"{source}: more than {MAX_FILES:,} images")
            if name in names:
                raise DataError(f"{source}: holds {name!r} more than once; refused")
            if not _is_unicode(name):
                raise DataError(f"{source}: the name {name!r} is not UTF-8; rename it")
            with packed.open(zipfile.ZipInfo(name, EPOCH), "w", force_zip64=True) as written:
                total += _copy(content, written, f"{source}: {name}", MAX_TOTAL_BYTES - total)
            names.add(name)
            report(len(names))
        if not names:
            raise DataError(
                f"{source}: no images (png, jpeg, webp, bmp, tiff) found; expected one sub-folder per class"
            )
    return len(names)


@contextmanager
def _intact(source: Path) -> Iterator[None]:
    """Tell a damaged archive from a bug of ours and from a disk that is full."""
    try:
        yield
    except (*DAMAGED, OSError) as problem:
        if isinstance(problem, OSError) and problem.errno not in NOT_THE_DISK:
            raise
        raise DataError(f"{source}: damaged or unsupported archive ({problem})") from None


def _is_unicode(name: str) -> bool:
    """Whether a name is text; bytes of another encoding come as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _copy(content: IO[bytes], written: IO[bytes], what: str, left: int) -> int:
    """Copy at most MAX_FILE_BYTES, whatever size the archive declares. Returns the bytes copied."""
    bound = min(MAX_FILE_BYTES, left)
    copied = 0
    while chunk := content.read(1 << 20):
        copied += len(chunk)
        if copied > bound:
            raise DataError(f"{what}: larger than {bound:,} bytes when unpacked; refused")
        written.write(chunk)
    return copied


def _members(source: Path) -> Iterator[Member]:
    if source.is_dir():
        return _directory_members(source)
    if zipfile.is_zipfile(source):
        return _zip_members(source)
    if tarfile.is_tarfile(source):
        return _tar_members(source)
    raise DataError(f"{source}: neither a directory nor a readable zip or tar archive")


def _directory_members(source: Path) -> Iterator[Member]:
    names = []
    for directory, folders, files in os.walk(source, followlinks=True, onerror=_refuse_unreadable):
        here = Path(directory)
        if _leads_back_up(here, source):
            folders.clear()
            continue
        names += [(here / file).relative_to(source).as_posix() for file in files]
    for name in sorted(filter(is_image_name, names)):
        try:
            content = (source / name).open("rb")
        except OSError as problem:  # a link to nowhere, say
            _refuse_unreadable(problem)
        with content:
            yield name, content


def _leads_back_up(directory: Path, source: Path) -> bool:
    """Whether a directory below ``source`` is, through a link, one of those that it lies in."""
    depth = len(directory.relative_to(source).parts)
    return directory.resolve() in {above.resolve() for above in directory.parents[:depth]}


def _refuse_unreadable(problem: OSError) -> NoReturn:
    raise DataError(f"{problem.filename}: cannot be read ({problem.strerror}); mend or remove it") from None


def _zip_members(source: Path) -> Iterator[Member]:
    with zipfile.ZipFile(source) as archive:
        for info in sorted(archive.infolist(), key=lambda info: _clean(info.filename)):
            _refuse_unsafe(source, info.filename, link=stat.S_ISLNK(info.external_attr >> 16))
            name = _clean(info.filename)
            if not info.is_dir() and is_image_name(name):
                with archive.open(info) as content:
                    yield name, content


def _tar_members(source: Path) -> Iterator[Member]:
    with source.open("rb") as opened:
        unpack: Any = COMPRESSED.get(opened.read(2), open)
    # Read as a stream: a compressed tar cannot be read out of order. Its names are sorted on reading.
    with unpack(source, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for info in archive:
            _refuse_unsafe(source, info.name, link=info.issym() or info.islnk())
            name = _clean(info.name)
            if info.isfile() and is_image_name(name):
                content = archive.extractfile(info)
                assert content is not None, "regular files have content"
                yield name, content
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep a kilobyte for each
        while stream.read(1 << 20):  # to its end, where a compressed stream has its checksum
            pass


def _refuse_unsafe(source: Path, name: str, *, link: bool) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (parts.parts and parts.parts[0].endswith(":")):
        raise DataError(f"{source}: member {name!r} leads outside the archive; refused")
    if link:
        raise DataError(f"{source}: member {name!r} is a link; refused, put the file itself there")


def _clean(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).as_posix()
