"""A folder of images, however it is brought, packed into one plain archive.

A directory of 60,000 small files is slow to hash, copy and cache; one uncompressed zip of the same
bytes, in sorted order and without dates, is quick and always the same for the same images.
"""

import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from darkroom.data.images import is_image_name
from darkroom.errors import DataError
from darkroom.files import atomic_file

MAX_FILES = 5_000_000
MAX_FILE_BYTES = 1 << 30
MAX_TOTAL_BYTES = 1 << 40
EPOCH = (1980, 1, 1, 0, 0, 0)

Member = tuple[str, IO[bytes]]
Report = Callable[[int], None]


def pack(source: Path, target: Path, report: Report = lambda count: None) -> int:
    """Pack every image below ``source``, a directory or a zip or tar archive, into the zip ``target``.

    Names in the zip are relative to ``source``, with ``/`` between parts. Other files are left out.

    Returns the number of images. Raises DataError if ``source`` is missing, is neither a directory nor
    a readable archive, holds no image, or holds a member that leads outside, is a link, or is too large.
    """
    if not source.exists():
        raise DataError(f"{source}: not found; set dataset.path to a directory, or a zip or tar archive, of images")
    count = total = 0
    with atomic_file(target) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as packed:
        for name, content in _members(source):
            if count == MAX_FILES:
                raise DataError(f"{source}: more than {MAX_FILES:,} images")
            with packed.open(zipfile.ZipInfo(name, EPOCH), "w", force_zip64=True) as written:
                total += _copy(content, written, f"{source}: {name}", MAX_TOTAL_BYTES - total)
            count += 1
            report(count)
    if not count:
        target.unlink()
        raise DataError(f"{source}: no images (png, jpeg, webp, bmp, tiff) found; expected one sub-folder per class")
    return count


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
    seen = set()
    for directory, folders, files in os.walk(source, followlinks=True):
        folders.sort()
        real = os.path.realpath(directory)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        for file in sorted(files):
            path = Path(directory, file)
            name = path.relative_to(source).as_posix()
            if is_image_name(name):
                with path.open("rb") as content:
                    yield name, content


def _zip_members(source: Path) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(source) as archive:
            for info in sorted(archive.infolist(), key=lambda info: info.filename):
                _refuse_unsafe(source, info.filename, link=stat.S_ISLNK(info.external_attr >> 16))
                if not info.is_dir() and is_image_name(info.filename):
                    with archive.open(info) as content:
                        yield _clean(info.filename), content
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as problem:
        raise DataError(f"{source}: damaged or unsupported zip archive ({problem})") from None


def _tar_members(source: Path) -> Iterator[Member]:
    try:
        # Read as a stream: a compressed tar cannot be read out of order. Its names are sorted on reading.
        with tarfile.open(source, "r|*") as archive:
            for info in archive:
                _refuse_unsafe(source, info.name, link=info.issym() or info.islnk())
                if info.isfile() and is_image_name(info.name):
                    content = archive.extractfile(info)
                    assert content is not None, "regular files have content"
                    yield _clean(info.name), content
    except (tarfile.TarError, EOFError, OSError) as problem:
        if isinstance(problem, OSError) and problem.errno is not None:
            raise
        raise DataError(f"{source}: damaged or unsupported tar archive ({problem})") from None


def _refuse_unsafe(source: Path, name: str, *, link: bool) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (parts.parts and parts.parts[0].endswith(":")):
        raise DataError(f"{source}: member {name!r} leads outside the archive; refused")
    if link:
        raise DataError(f"{source}: member {name!r} is a link; refused, put the file itself there")


def _clean(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).as_posix()
