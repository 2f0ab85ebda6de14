"""Random access to the packed images from any process, without an index in each.

zipfile keeps an object of half a kilobyte for every member in every process that opens an archive: for a million
images more than their pixels need. Here the index is read once, to a name and a record of twenty bytes a member,
and a process that reads members needs nothing but their records.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import DataError

# Where a member's bytes lie in the archive, and their checksum.
RECORD = np.dtype([("start", "<i8"), ("size", "<i8"), ("crc", "<u4")])
Records = NDArray[np.void]

# The parts of a zip that say where the members are; the numbers of APPNOTE.TXT that do not matter here are skipped.
ENTRY = struct.Struct("<4s12x3L3H8xL")  # central directory: CRC, packed and real size, lengths of the texts, offset
END = struct.Struct("<4s6xH2L2x")  # members, size and offset of the central directory
END_64 = struct.Struct("<4s28x3Q")  # the same of a large zip, before a locator and the other end
LOCATOR_SIZE = 20
MANY = 0xFFFF  # in place of a number of members that does not fit
BEYOND = 0xFFFFFFFF  # in place of an offset that does not fit, and lies in the extra text


def read_index(archive: Path) -> tuple[list[str], Records]:
    """The names in an archive that ``pack`` has written, sorted, and the RECORD [N] of each.

    Raises DataError if the archive is missing or is not one of those.
    """
    try:
        with archive.open("rb") as opened:
            return _read_index(opened)
    except (OSError, ValueError, OverflowError, struct.error):  # UnicodeDecodeError is a ValueError
        raise damaged(archive) from None


def read_members(archive: Path, records: Records) -> Iterator[bytes]:
    """The content of each member. Raises DataError if one has changed since it was packed."""
    try:
        with archive.open("rb", buffering=0) as opened:
            for start, size, crc in records.tolist():
                content = os.pread(opened.fileno(), size, start)
                if zlib.crc32(content) != crc:
                    raise damaged(archive)
                yield content
    except OSError:
        raise damaged(archive) from None


def damaged(archive: Path) -> DataError:
    return DataError(f"{archive}: missing or damaged; run `darkroom download` again")


def _read_index(opened: BinaryIO) -> tuple[list[str], Records]:
    count, directory = _find_directory(opened)
    opened.seek(directory)
    names: list[str] = []
    offsets = np.full(count + 1, directory, dtype=np.int64)
    sizes = np.zeros(count, dtype=np.int64)
    checksums = np.zeros(count, dtype=np.uint32)
    for row in range(count):
        entry = ENTRY.unpack(opened.read(ENTRY.size))
        magic, checksums[row], packed, size, name_length, extra_length, comment_length, offset = entry
        if magic != b"PK\1\2" or packed != size:
            raise ValueError("no entry of a stored member")
        names.append(opened.read(name_length).decode())
        extra = opened.read(extra_length)
        opened.read(comment_length)
        if offset == BEYOND:
            # After the extra's two numbers of two bytes. Sizes never lie there: no member is that large.
            (offset,) = struct.unpack_from("<Q", extra, 4)
        offsets[row], sizes[row] = offset, size
    if opened.read(4) not in (b"PK\5\6", b"PK\6\6"):
        raise ValueError("more members than the end of the zip counts")
    if len(set(names)) < count:
        raise ValueError("two members of one name")
    records = np.empty(count, dtype=RECORD)
    # Each member ends where the next one's header begins.
    records["start"], records["size"], records["crc"] = offsets[1:] - sizes, sizes, checksums
    order = sorted(range(count), key=names.__getitem__)
    return [names[row] for row in order], records[order]


def _find_directory(opened: BinaryIO) -> tuple[int, int]:
    """The number of members, and where the central directory begins."""
    length = opened.seek(0, os.SEEK_END)
    opened.seek(length - END.size)
    magic, count, _, directory = END.unpack(opened.read())
    if magic != b"PK\5\6":
        raise ValueError("no end of a zip without a comment")
    if count == MANY or directory == BEYOND:
        opened.seek(length - END.size - LOCATOR_SIZE - END_64.size)
        magic, *large = END_64.unpack(opened.read(END_64.size))
        if magic == b"PK\6\6":  # else there are just as many members
            count, _, directory = large
    if not 0 < count * ENTRY.size <= length - directory:
        raise ValueError("no members, or more than there is room for")
    return count, directory
