"""Files that would keep a parser busy before any pixel is decoded are refused; usual files are not."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from tests.unit.images.image_files import chunk, encoded

from darkroom.images.decoder import BrokenImageError, Decoder, read_header
from darkroom.images.effort import LEAST_READS, MAX_STRIPS, MAX_TAGS, decoding_pixels

GRAY = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
MANY = 300_000


def after(content: bytes, place: int, inserted: bytes) -> bytes:
    return content[:place] + inserted + content[place:]


def tiff(tags: int = 8, strips: int = 1) -> bytes:
    """A TIFF of 8 by 8, with further tags or with a list of strips that does not fit it."""
    known = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: 64}
    entries = b"".join(struct.pack("<HHII", tag, 4, strips if tag == 273 else 1, value) for tag, value in known.items())
    more = max(0, tags - len(known))
    entries += b"".join(struct.pack("<HHII", 300 + number, 4, 1, 0) for number in range(more))
    return b"II*\0" + struct.pack("<IH", 8, len(known) + more) + entries + bytes(4) + bytes(100)


JPEG, PNG, JP2 = (encoded(GRAY, form) for form in ("JPEG", "PNG", "JPEG2000"))
EMPTY_CHUNK = chunk(b"abCd", b"")
ATTACKS = {
    "a comment read byte by byte": b"P5\n#" + b"a" * MANY + b"\n8 8 255\n" + bytes(64),
    "spaces read byte by byte": b"P5\n" + b" " * MANY + b"8 8 255\n" + bytes(64),
    "empty segments": after(JPEG, 2, b"\xff\xfe\0\2" * MANY),
    "fill bytes": after(JPEG, 2, b"\xff" * MANY),
    "bytes between segments": after(JPEG, 20, b"a" * MANY),
    "empty chunks": after(PNG, 33, EMPTY_CHUNK * MANY),
    "pixels in chunks of a byte": PNG[:33]
    + b"".join(chunk(b"IDAT", bytes([each])) for each in bytes(MANY))
    + PNG[-12:],
    "empty boxes": after(JP2, 12, struct.pack(">I4s", 8, b"free") * MANY),
    "tags": tiff(tags=MAX_TAGS + 1),
    "strips": tiff(strips=MAX_STRIPS + 1),
    "scans between fill bytes": after(JPEG, 2, b"\xff" * MANY + b"\xff\xda" * 200),
}


@pytest.mark.parametrize("content", ATTACKS.values(), ids=ATTACKS)
def test_a_file_that_is_all_header_is_refused(content: bytes) -> None:
    with pytest.raises(BrokenImageError, match=r"too many (parts|chunks)|more than [0-9,]+|scans"):
        Decoder(1, (8, 8))(content)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000"])
def test_usual_files_of_any_size_are_read(form: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 900), dtype=np.uint8)
    for pixels in (noise, noise[:1, :1], np.zeros((700, 900), dtype=np.uint8)):
        assert read_header(encoded(Image.fromarray(pixels), form)).width == pixels.shape[1]


def test_metadata_of_a_photograph_is_no_reason_to_refuse_it() -> None:
    exif = Image.Exif()
    for tag in range(40_000, 40_000 + LEAST_READS // 2):
        exif[tag] = "some words of a camera"
    content = encoded(GRAY, "JPEG", exif=exif, comment=b"c" * 60_000, icc_profile=bytes(500_000), progressive=True)
    assert Decoder(1, (8, 8))(content).shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (PNG, 4096),
        (JPEG, 4096),
        (JPEG + b"\xff\xda" * 99, 4096 * 10),
        (encoded(GRAY, "AVIF"), float("inf")),
        (b"P2\n8 8\n255\n", float("inf")),
        (b"P5\n8 8\n255\n", 4096),
        (encoded(GRAY, "BMP"), 4096),
        (b"BM" + bytes(28) + b"\1" + bytes(3), float("inf")),
    ],
    ids=["png", "jpeg", "hundred scans", "avif", "plain pgm", "pgm", "bmp", "run lengths"],
)
def test_what_takes_longer_than_its_pixels_counts_as_more(content: bytes, expected: float) -> None:
    assert decoding_pixels(content, 4096) == pytest.approx(expected)


def test_a_tiff_that_is_cut_off_is_told_as_that() -> None:
    whole = encoded(GRAY, "TIFF")
    for length in (6, 9, 40):
        with pytest.raises(BrokenImageError):
            read_header(whole[:length])


def test_chunks_of_a_large_png_are_no_reason_to_refuse_it() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2000), dtype=np.uint8)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in noise))
    parts = b"".join(chunk(b"IDAT", rows[start : start + 1024]) for start in range(0, len(rows), 1024))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2000, 2000, 8, 0, 0, 0, 0))
    assert (Decoder(1, (2000, 2000))(PNG[:8] + header + parts + chunk(b"IEND", b""))[0] == noise).all()
