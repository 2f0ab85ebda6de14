"""Bounds on the work that a file causes before its pixels are decoded.

Pillow's parsers of headers are Python, and a file of some megabytes can keep them busy for a minute: with a comment
that is read byte by byte, with millions of empty segments, chunks or tags.
"""

import io
import struct

from darkroom.images.containers import JPEG, START_OF_SCAN, TIFF, is_avif

# Reads of a header. Photographs with all their metadata have some hundreds; large files may have more.
LEAST_READS = 1_000
BYTES_A_READ = 256
# Of the first page of a TIFF.
MAX_TAGS = 1_000
MAX_STRIPS = 100_000
STRIP_OFFSETS = 273
TILE_OFFSETS = 324
# Numbers written as text, and run lengths of a BMP: both are decoded in Python.
PLAIN_PNM = (b"P1", b"P2", b"P3")
BMP = b"BM"
BMP_COMPRESSION = 30
RUN_LENGTHS = (b"\1", b"\2")
# A progressive JPEG usually has about ten.
USUAL_SCANS = 10


class HeaderStream(io.BytesIO):
    """The bytes of a file for a parser, which raises ValueError once a header was read in too many pieces."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._left: int | None = LEAST_READS + len(content) // BYTES_A_READ

    def end_of_header(self) -> None:
        """Stop counting reads."""
        self._left = None

    def read(self, size: int | None = -1) -> bytes:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise ValueError("a header of too many parts")
        return super().read(size)


def check_tiff(content: bytes) -> None:
    """Raises ValueError for a TIFF whose first page has too many tags, strips or tiles."""
    if not content.startswith(TIFF):
        return
    order, is_big = "<" if content[:2] == b"II" else ">", content[2:4] in (b"+\0", b"\0+")
    entry = struct.Struct(order + ("HHQQ" if is_big else "HHII"))
    try:
        (place,) = struct.unpack_from(order + ("Q" if is_big else "I"), content, 8 if is_big else 4)
        (tags,) = struct.unpack_from(order + ("Q" if is_big else "H"), content, place)
        if tags > MAX_TAGS:
            raise ValueError(f"a TIFF of {tags:,} tags, more than {MAX_TAGS:,}")
        place += 8 if is_big else 2
        for number in range(tags):
            tag, _, count, _ = entry.unpack_from(content, place + number * entry.size)
            if tag in (STRIP_OFFSETS, TILE_OFFSETS) and count > MAX_STRIPS:
                raise ValueError(f"a TIFF of {count:,} strips or tiles, more than {MAX_STRIPS:,}")
    except struct.error:
        return  # cut off, as the decoder will say


def decoding_pixels(content: bytes, pixels: int) -> float:
    """How many pixels of a usual picture take as long to decode as the ``pixels`` of this one; inf if it may be any.

    Each scan of a progressive JPEG passes over all of them. An AVIF may hold more than its header says.
    """
    if is_avif(content) or content.startswith(PLAIN_PNM):
        return float("inf")
    if content.startswith(BMP) and content[BMP_COMPRESSION : BMP_COMPRESSION + 1] in RUN_LENGTHS:
        return float("inf")
    if content.startswith(JPEG):
        return pixels * max(1.0, content.count(bytes((0xFF, START_OF_SCAN))) / USUAL_SCANS)
    return pixels
