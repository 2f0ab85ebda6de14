"""Pack a directory or an archive of images into one plain archive.

A directory of 60,000 small files is slow to hash, copy and cache. One uncompressed zip of the same bytes, sorted and
without dates, is fast, and identical for the same images. (Members of a tar keep their order: a tar can only be read
from front to back.)
"""

import bz2
import errno
import gzip
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, Any, NoReturn

from darkroom.datasets.inventory import Inventory, Tally
from darkroom.datasets.names import compose, is_hidden, with_slashes, zip_names
from darkroom.datasets.signatures import FORMATS, HEAD_BYTES, has_image_suffix, is_image, suffix
from darkroom.datasets.split_names import find_splits
from darkroom.datasets.tars import HeaderError, is_tar, open_tar
from darkroom.errors import DataError
from darkroom.utils.files import atomic_file

MAX_FILES = 5_000_000
MAX_NAMED = 5
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
SUFFIXES = (".zip", ".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
# Archives of other kinds: one of them beside others may be a class.
UNREADABLE = (".7z", ".rar", ".zst", ".lz4")
# What distinguishes the parts of one archive, such as birds-0001.tar.
PART = re.compile(r"[-_.]\d+$")
COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open, b"]\x00": lzma.open}

# A file's name, how it is spelled in the source, and what opens it: None for a folder. A pipe, say, opens as None.
Entry = tuple[str, str, Callable[[], IO[bytes] | None] | None]
ReportCount = Callable[[int], None]


def pack(
    source: Path, target: Path, report: ReportCount = lambda count: None, *, encoding: str | None = None
) -> Inventory:
    """Pack every image below ``source``, a directory or a zip or tar archive, into the zip ``target``.

    A directory without images, but with archives, is read as if each was a folder of its name, and parts of one
    archive (``train-1.zip``, ``train-2.zip``) one folder.

    Names in the zip are relative to ``source``, with ``/`` between parts, composed (NFC). Names that are not UTF-8
    are read by ``encoding``. What was left out is written beside ``target``, as ``Inventory.write`` does.

    Returns what there was. Raises DataError if ``source`` is missing, is neither a directory nor a readable
    archive, holds no image, or holds a member that leads outside, is a link, is too large, is there twice, or
    has a name in no known encoding. ``target`` is then left as it was.
    """
    tally, total = Tally(), 0
    with _intact(source), atomic_file(target) as partial_target:
        with zipfile.ZipFile(partial_target, "w", zipfile.ZIP_STORED) as packed:
            for name, head, content in _images(source, encoding, tally):
                with packed.open(zipfile.ZipInfo(name, EPOCH), "w", force_zip64=True) as written:
                    written.write(head)
                    total += len(head) + _copy(content, written, f"{source}: {name}", MAX_TOTAL_BYTES - total)
                report(tally.images)
        inventory = _close(tally, source)
    inventory.write(target.parent)
    return inventory


def list_images(source: Path, *, encoding: str | None = None) -> tuple[list[str], Inventory]:
    """The names that ``pack`` would pack, sorted, and what it would leave out. Raises DataError as it does."""
    tally = Tally()
    with _intact(source):
        names = sorted(name for name, _, _ in _images(source, encoding, tally))
    return names, _close(tally, source)


def _images(source: Path, encoding: str | None, tally: Tally) -> Iterator[tuple[str, bytes, IO[bytes]]]:
    """The name of each image, the bytes read to recognize it, and the rest. The ``tally`` counts all files."""
    if not source.exists():
        raise DataError(f"{source}: not found; set dataset.path to a directory, or a zip or tar archive, of images")
    names: set[str] = set()
    respelled: dict[str, str] = {}
    for name, given, opener in _entries(source, encoding):
        if opener is None:
            if not is_hidden(name):
                tally.add_folder(name)
            continue
        if is_hidden(name):
            tally.leave_out(name)
            continue
        content = opener()
        if content is None:
            continue
        with content:
            head = b"" if has_image_suffix(name) else content.read(HEAD_BYTES)
            if not is_image(name, head):
                tally.leave_out(name)
                continue
            if len(names) == MAX_FILES:
                raise DataError(f"{source}: more than {MAX_FILES:,} images")
            if name in names:
                # In ASCII: the two may look the same.
                spellings = f"as {respelled.get(name, name)!a} and {given!a}"
                raise DataError(f"{source}: holds {name!r} more than once, {spellings}; rename or remove one")
            names.add(name)
            if given != name:
                respelled[name] = given
            tally.add_image(name)
            yield name, head, content


def _close(tally: Tally, source: Path) -> Inventory:
    inventory = tally.close()
    if not inventory.images:
        found = f" ({inventory})" if inventory.files else ""
        raise DataError(f"{source}: no images ({FORMATS}) found; expected one sub-folder per class{found}")
    return inventory


def read_images(
    source: Path, *, encoding: str | None = None, chosen: Container[str] | None = None
) -> Iterator[tuple[str, bytes]]:
    """The name and the content of each image in a directory or an archive, by the rules of ``pack``.

    With ``chosen`` only the images of these names are read.

    Raises DataError, perhaps after some images, if the archive is damaged, or holds a member that leads outside, is
    a link, is too large, or has a name in no known encoding.
    """
    with _intact(source):
        for name, head, opened in _images(source, encoding, Tally()):
            if chosen is not None and name not in chosen:
                continue
            content = head + opened.read(MAX_FILE_BYTES + 1)
            if len(content) > MAX_FILE_BYTES:
                raise DataError(f"{source}: {name}: larger than {MAX_FILE_BYTES:,} bytes when unpacked; refused")
            yield name, content


@contextmanager
def _intact(source: Path) -> Iterator[None]:
    """Distinguish a damaged archive from a bug in Darkroom and from a full disk."""
    try:
        yield
    except HeaderError as problem:
        raise DataError(f"{source}: {problem}") from None
    except (*DAMAGED, OSError) as problem:
        if isinstance(problem, OSError) and problem.errno not in NOT_THE_DISK:
            raise
        raise DataError(f"{source}: damaged or unsupported archive ({problem})") from None


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


def _entries(source: Path, encoding: str | None) -> Iterator[Entry]:
    if source.is_dir():
        archives = _archives_in(source)
        inner = (_archive_entries(source, name, folder, encoding) for name, folder in archives.items())
        return chain(_directory_entries(source, encoding, set(archives)), chain.from_iterable(inner))
    if zipfile.is_zipfile(source):
        return _zip_entries(source, encoding)
    if is_tar(source):
        return _tar_entries(source, encoding)
    raise DataError(f"{source}: neither a directory nor a readable zip or tar archive")


def _archives_in(source: Path) -> dict[str, str]:
    """The folder that each archive in a directory stands for; none if there are images beside them.

    Raises DataError if it is not clear whether they are parts of one archive, or one is of a kind that is not read.
    """
    found: list[str] = []
    unreadable: list[str] = []
    for directory, _, files in os.walk(source):
        for path in (Path(directory, file).relative_to(source).as_posix() for file in files):
            if is_hidden(path):
                continue
            if has_image_suffix(path) or (not suffix(path) and is_image_file(source, path)):
                return {}
            if path.lower().endswith(SUFFIXES):
                found.append(path)
            if path.lower().endswith(UNREADABLE):
                unreadable.append(path)
    if found and unreadable:
        raise DataError(f"{source}: {unreadable[0]} cannot be read; unpack it, and pack it as a zip or tar")
    return _folders_of(sorted(found), source)


def _folders_of(archives: Sequence[str], source: Path) -> dict[str, str]:
    """The folder of each archive: its name, without the number of a part if another one differs in that alone."""
    endings = sorted(SUFFIXES, key=len, reverse=True)
    stems = {name: name[: -len(next(each for each in endings if name.lower().endswith(each)))] for name in archives}
    parts: dict[str, list[str]] = {}
    for name, stem in stems.items():
        parts.setdefault(PART.sub("", stem), []).append(name)
    splits = find_splits(parts)
    unclear = [names for base, names in parts.items() if len(names) > 1 and base not in splits]
    if unclear and len(parts) > 1:
        names = [Path(name).name for name in unclear[0]]
        raise DataError(
            f"{source}: are {', '.join(names[:MAX_NAMED])}{', …' * (len(names) > MAX_NAMED)} classes, or parts of one "
            "archive? Unpack them into one folder per class"
        )
    return {name: base if len(names) > 1 else stems[name] for base, names in parts.items() for name in names}


def _archive_entries(source: Path, name: str, folder: str, encoding: str | None) -> Iterator[Entry]:
    """The entries of the archive ``name`` in ``source``, in ``folder``."""
    folder = compose(folder, encoding, source)
    for inner, given, opener in _entries(source / name, encoding):
        yield f"{folder}/{inner}", f"{name}: {given}", opener


def _directory_entries(source: Path, encoding: str | None, left_out: Container[str]) -> Iterator[Entry]:
    """The files of a directory, but those ``left_out``."""
    names = []
    for directory, folders, files in os.walk(source, followlinks=True, onerror=_refuse_unreadable):
        here = Path(directory)
        if leads_back_up(here, source):
            folders.clear()
            continue
        folder = "" if here == source else here.relative_to(source).as_posix() + "/"
        if folder:
            yield compose(folder[:-1], encoding, source), folder, None
        names += [folder + file for file in files if folder + file not in left_out]
    names.sort(key=lambda name: compose(name, encoding, source))
    for name in names:
        yield compose(name, encoding, source), name, partial(_open_file, source / name)


def _open_file(path: Path) -> IO[bytes] | None:
    try:
        # Opening a pipe would wait for who writes to it.
        if not has_image_suffix(path.name) and not stat.S_ISREG(path.stat().st_mode):
            return None
        return path.open("rb")
    except OSError as problem:  # a link to nowhere, say
        _refuse_unreadable(problem)


def is_image_file(directory: Path, name: str) -> bool:
    """Whether the file ``name`` below ``directory`` would be packed.

    Raises DataError if it cannot be read.
    """
    if is_hidden(name):
        return False
    if has_image_suffix(name):
        return True
    opened = _open_file(directory / name)
    if opened is None:
        return False
    with opened:
        return is_image(name, opened.read(HEAD_BYTES))


def leads_back_up(directory: Path, source: Path) -> bool:
    """Whether a directory below ``source`` is a link to one of its own parents."""
    depth = len(directory.relative_to(source).parts)
    return directory.resolve() in {above.resolve() for above in directory.parents[:depth]}


def _refuse_unreadable(problem: OSError) -> NoReturn:
    raise DataError(f"{problem.filename}: cannot be read ({problem.strerror}); fix or remove it") from None


def _zip_entries(source: Path, encoding: str | None) -> Iterator[Entry]:
    with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
        given = zip_names(members, encoding, source)
        names = [with_slashes(compose(name, encoding, source)) for name in given]
        for row in sorted(range(len(names)), key=names.__getitem__):
            info = members[row]
            _refuse_unsafe(source, given[row], link=stat.S_ISLNK(info.external_attr >> 16))
            is_folder = given[row].endswith(("/", "\\"))
            yield names[row], given[row], None if is_folder else partial(archive.open, info)


def _tar_entries(source: Path, encoding: str | None) -> Iterator[Entry]:
    with source.open("rb") as opened:
        unpack: Any = COMPRESSED.get(opened.read(2), open)
    # Read as a stream: a compressed tar cannot be read out of order. Its names are sorted on reading.
    with unpack(source, "rb") as stream, open_tar(fileobj=stream, mode="r|") as archive:
        for info in archive:
            # Decoded first: a backslash may be half a letter in other encodings.
            name = compose(info.name, encoding, source)
            _refuse_unsafe(source, name, link=info.issym() or info.islnk())
            if info.isfile() or info.isdir():
                yield with_slashes(name), info.name, partial(archive.extractfile, info) if info.isfile() else None
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep a kilobyte for each
        while stream.read(1 << 20):  # to its end, where a compressed stream has its checksum
            pass


def _refuse_unsafe(source: Path, name: str, *, link: bool) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (parts.parts and parts.parts[0].endswith(":")):
        raise DataError(f"{source}: member {name!r} leads outside the archive; refused")
    if link:
        raise DataError(f"{source}: member {name!r} is a link; refused, put the file itself there")
