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


def tiff(values, photometric=1, extra=(), order="<", nodata=None, tags=()):
    """An uncompressed TIFF of one page of ``values`` [H, W] or [H, W, bands] of any dtype."""
    height, width = values.shape[:2]
    bands = values.shape[2] if values.ndim == 3 else 1
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    short, long, text = 3, 4, 2
    entries = {
        256: (long, [width]),
        257: (long, [height]),
        258: (short, [8 * values.itemsize] * bands),
        259: (short, [1]),
        262: (short, [photometric]),
        273: (long, [0]),
        277: (short, [bands]),
        278: (long, [height]),
        279: (long, [len(data)]),
        339: (short, [kind] * bands),
        **{tag: (short, [value]) for tag, value in tags},
    }
    if extra:
        entries[338] = (short, list(extra))
    if nodata is not None:
        entries[42113] = (text, nodata.encode() + b"\0")
    directory = 8
    after = directory + 2 + 12 * len(entries) + 4
    further = b""
    packed = {}
    for tag, (form, content) in sorted(entries.items()):
        raw = (
            content if form == text else struct.pack(f"{order}{len(content)}{'H' if form == short else 'I'}", *content)
        )
        count = len(content)
        if len(raw) > 4:
            place = after + len(further)
            further += raw + b"\0" * (len(raw) % 2)
            raw = struct.pack(f"{order}I", place)
        packed[tag] = (form, count, raw.ljust(4, b"\0"))
    form, count, _ = packed[273]
    packed[273] = (form, count, struct.pack(f"{order}I", after + len(further)))
    body = struct.pack(f"{order}H", len(packed))
    for tag, (form, count, raw) in packed.items():
        body += struct.pack(f"{order}HHI", tag, form, count) + raw
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}I", directory) + body + struct.pack(f"{order}I", 0) + further + data
