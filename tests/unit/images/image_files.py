"""Image files of every form, made by hand where Pillow does not write them."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from darkroom.images.decoder import Decoder


def decode(content, channels, size, **settings):
    """uint8 [channels, *size] of a file's content."""
    return Decoder(channels, size, **settings)(content)


def read(path, channels, size, **settings):
    """uint8 [channels, *size] of a file."""
    return decode(path.read_bytes(), channels, size, **settings)


def encoded(image, form="PNG", **options):
    """A picture, or an array of its pixels, as a file."""
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, form, **options)
    return stream.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values, color_type, *chunks, bits=None):
    """A PNG of ``values`` [H, W] or [H, W, bands], uint8 or uint16, or packed rows of fewer ``bits``."""
    height, width = values.shape[:2]
    bits = bits or 8 * values.itemsize
    if bits < 8:
        rows = np.packbits(np.unpackbits(values[..., None], axis=-1)[..., 8 - bits :].reshape(height, -1), axis=1)
    else:
        rows = values.reshape(height, -1).astype(">u2" if bits == 16 else "u1")
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(lines))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def tiff(values, photometric=1, extra=(), order="<", nodata=None, tags=(), tile=None):
    """An uncompressed TIFF of one page of ``values`` [H, W] or [H, W, bands] of any dtype, in one strip.

    With ``tile``, it is in squares of so many pixels, those at the edges filled up.
    """
    height, width = values.shape[:2]
    bands = values.shape[2] if values.ndim == 3 else 1
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    short, long, text = 3, 4, 2
    blocks = [values] if tile is None else squares(values, tile)
    parts = [block.astype(values.dtype.newbyteorder(order)).tobytes() for block in blocks]
    entries = {
        256: (long, [width]),
        257: (long, [height]),
        258: (short, [8 * values.itemsize] * bands),
        259: (short, [1]),
        262: (short, [photometric]),
        277: (short, [bands]),
        339: (short, [kind] * bands),
        **{tag: (short, [value]) for tag, value in tags},
    }
    if extra:
        entries[338] = (short, list(extra))
    if nodata is not None:
        entries[42113] = (text, nodata.encode() + b"\0")
    offsets, sizes = (273, 279) if tile is None else (324, 325)
    entries |= {278: (long, [height])} if tile is None else {322: (long, [tile]), 323: (long, [tile])}
    entries[sizes] = (long, [len(part) for part in parts])

    def head(start):
        """All that is before the pixels, which begin at ``start``."""
        places = [start + sum(map(len, parts[:number])) for number in range(len(parts))]
        directory = 8
        after = directory + 2 + 12 * (len(entries) + 1) + 4
        further = body = b""
        for tag, (form, content) in sorted((entries | {offsets: (long, places)}).items()):
            letter = "H" if form == short else "I"
            raw = content if form == text else struct.pack(f"{order}{len(content)}{letter}", *content)
            if len(raw) > 4:
                place = after + len(further)
                further += raw + b"\0" * (len(raw) % 2)
                raw = struct.pack(f"{order}I", place)
            body += struct.pack(f"{order}HHI", tag, form, len(content)) + raw.ljust(4, b"\0")
        magic = b"II*\0" if order == "<" else b"MM\0*"
        count = struct.pack(f"{order}H", len(entries) + 1)
        return magic + struct.pack(f"{order}I", directory) + count + body + struct.pack(f"{order}I", 0) + further

    return head(len(head(0))) + b"".join(parts)


def squares(values, side):
    """Squares of ``values`` [H, W, ...] from left to right and top to bottom, beyond the edges zeros."""
    height, width = values.shape[:2]
    padding = [(0, -height % side), (0, -width % side)] + [(0, 0)] * (values.ndim - 2)
    padded = np.pad(values, padding)
    return [
        padded[top : top + side, left : left + side] for top in range(0, height, side) for left in range(0, width, side)
    ]
