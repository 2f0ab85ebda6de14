"""Metadata of image files. None of it decides whether the pixels can be read."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from PIL import Image, TiffImagePlugin

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
AVIF = b"ftypavif"
WEBP = b"WEBP"
# The chunks of a PNG that its pixels need: W3C, "Portable Network Graphics (PNG) Specification", chapter 11.
NEEDED_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
# Encoders divide pixels into chunks of some thousand bytes. Millions of empty ones fit into some megabytes.
LEAST_CHUNKS = 1_000
BYTES_A_CHUNK = 256
# Those that may have the orientation: EXIF, and texts with EXIF in hexadecimal digits (of ImageMagick) and with XMP.
EXIF_CHUNK = b"eXIf"
EXIF_TEXT = b"Raw profile type exif\0"
XMP_TEXT = b"XML:com.adobe.xmp\0"
LARGEST_EXIF = 1 << 16
ANIMATION_CHUNK = b"acTL"
ORIENTATION = 0x0112
START_OF_SCAN = 0xDA
END_OF_IMAGE = 0xD9
# A progressive JPEG has about ten scans, each over all its pixels. A hundred thousand fit into some megabytes and take
# minutes.
MAX_SCANS = 100
LEAST_MARKERS = 10_000
BYTES_A_MARKER = 32

# TIFF 6.0 (Adobe, 1992): tags, and the bands of a picture of each PhotometricInterpretation.
PHOTOMETRIC = 262
SAMPLES = 277
BITS = 258
SAMPLE_FORMAT = 339
EXTRA_SAMPLES = 338
PLANAR = 284
COLOR_BANDS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
WHITE_IS_ZERO = 0
# ExtraSamples that are transparency; 999 is Corel Draw's.
ALPHA = (1, 2, 999)
SAMPLE_KINDS = {1: "uint", 2: "int", 3: "float"}
GDAL_NODATA = 42113

# What files begin with that people take for images and Pillow does not read.
OTHERS = (
    (4, b"ftyphei", "a HEIC picture; convert it to JPEG or PNG"),
    (4, b"ftypmif1", "a HEIF picture; convert it to JPEG or PNG"),
    (4, b"ftyp", "a film"),
    (128, b"DICM", "a DICOM file; export its picture as PNG or TIFF"),
    (0, b"%PDF", "a PDF document"),
    (0, b"<svg", "an SVG drawing; convert it to PNG"),
    (0, b"<?xml", "an XML document"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"PK\3\4", "a zip archive"),
    (0, b"\x93NUMPY", "a NumPy array; save it as PNG or TIFF"),
    (0, b"\x89HDF", "an HDF5 file; save its pictures as PNG or TIFF"),
    (0, b"8BPS", "a Photoshop document; export it as PNG"),
)


def needed_chunks(content: bytes) -> bytes:
    """A PNG without the chunks that its pixels do not need.

    Pillow refuses a whole picture for a text of a megabyte or a damaged color profile. What cannot be followed is
    kept as it is, for the decoder to refuse. An animation is reduced to its default image. Kept is what may have the
    orientation, and before the pixels.
    """
    kept: list[bytes] = []
    about: list[bytes] = []
    place = len(PNG)
    for kind, end in _chunks(content):
        if kind in NEEDED_CHUNKS:
            kept.append(content[place:end])
        elif end - place <= 2 * LARGEST_EXIF:
            about += _of_orientation(kind, content[place:end])
        place = end
    # Behind the pixels they would be read too late.
    return b"".join([PNG, *kept[:1], *about, *kept[1:], content[place:]])


def _of_orientation(kind: bytes, chunk: bytes) -> list[bytes]:
    """The chunk, if it may have the orientation; a compressed text as a plain one, if it is not too large."""
    data = chunk[8:-4]
    if kind == EXIF_CHUNK or (kind == b"tEXt" and data.startswith(EXIF_TEXT)):
        return [chunk]
    if kind == b"iTXt" and data.startswith(XMP_TEXT):
        return [chunk]
    if kind == b"zTXt" and data.startswith(EXIF_TEXT):
        try:
            text = zlib.decompressobj().decompress(data[len(EXIF_TEXT) + 1 :], 2 * LARGEST_EXIF)
        except zlib.error:
            return []
        plain = b"tEXt" + EXIF_TEXT + text
        return [struct.pack(">I", len(plain) - 4) + plain + struct.pack(">I", zlib.crc32(plain))]
    return []


def is_animated(content: bytes) -> bool:
    """Whether a PNG declares before its pixels that it is an animation."""
    return any(kind == ANIMATION_CHUNK for kind, _ in _chunks(content))


def _chunks(content: bytes) -> Iterator[tuple[bytes, int]]:
    """The kind of each whole chunk, and where it ends. Raises ValueError if they are too many for their bytes."""
    place, left = len(PNG), LEAST_CHUNKS + len(content) // BYTES_A_CHUNK
    while place + 12 <= len(content):
        left -= 1
        if left < 0:
            raise ValueError("a PNG of too many chunks")
        (length,) = struct.unpack_from(">I", content, place)
        kind, place = content[place + 4 : place + 8], place + 12 + length
        if place > len(content):
            return
        yield kind, place
        if kind == b"IEND":
            return


def is_avif(content: bytes) -> bool:
    """Whether a file is an AVIF image, whose decoder takes the size from the pixel data and not from the header."""
    return content[4:12] == AVIF


def webp_size(content: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP image; None for other files. Opening one allocates memory for all of its pixels.

    RFC 9649, "WebP Image Format" (2024), sections 2.5 to 2.7.
    """
    if content[:4] != b"RIFF" or content[8:12] != WEBP or len(content) < 30:
        return None
    kind = content[12:16]
    if kind == b"VP8X":
        return int.from_bytes(content[24:27], "little") + 1, int.from_bytes(content[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def has_many_scans(content: bytes) -> bool:
    """Whether a JPEG has more than MAX_SCANS scans. Data after its end, such as a motion photo's video, is ignored."""
    if not content.startswith(JPEG) or content.count(bytes((0xFF, START_OF_SCAN))) <= MAX_SCANS:
        return False
    scans, place, left = 0, 2, LEAST_MARKERS + len(content) // BYTES_A_MARKER
    while scans <= MAX_SCANS and (place := content.find(0xFF, place)) != -1 and place + 1 < len(content):
        left -= 1
        if left < 0:  # pixels hold one FF in 256 bytes, and not millions in a row
            return True
        marker = content[place + 1]
        if marker == END_OF_IMAGE:
            break
        scans += marker == START_OF_SCAN
        # 00 and D0 to D7 belong to the pixels, and so do the FF before another FF; all others but D8 have a length.
        has_length = marker not in (0x00, 0x01, 0xFF) and not 0xD0 <= marker <= 0xD8
        place += 1 if marker == 0xFF else 2
        if has_length and place + 2 <= len(content):
            place += struct.unpack_from(">H", content, place)[0]
    return scans > MAX_SCANS


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an open image, 1 to 8; 1 if it has none. Other damaged tags do not matter."""
    try:
        # A PNG's own getexif would decode the whole picture.
        found = Image.Image.getexif(image).get(ORIENTATION, 1)
    except Exception:  # damaged bytes make Pillow's parser raise almost anything
        return 1
    return found if found in range(1, 9) else 1


class TiffTags:
    """The tags of the first page of a TIFF."""

    def __init__(self, tags: Any) -> None:
        self.samples = int(tags.get(SAMPLES, 1))
        self.photometric = int(tags.get(PHOTOMETRIC, 1))
        self.bits = _numbers(tags.get(BITS, 1))
        self.formats = _numbers(tags.get(SAMPLE_FORMAT, 1))
        self.extra = _numbers(tags.get(EXTRA_SAMPLES, ()))
        self.is_planar = int(tags.get(PLANAR, 1)) == 2
        self._nodata = tags.get(GDAL_NODATA)

    @classmethod
    def of(cls, image: Image.Image) -> "TiffTags | None":
        """The tags of an open image, or None if it is no TIFF."""
        return cls(image.tag_v2) if isinstance(image, TiffImagePlugin.TiffImageFile) else None

    @property
    def further(self) -> int:
        """How many bands there are beyond those of the picture and a declared transparency."""
        beyond = self.samples - COLOR_BANDS.get(self.photometric, 1)
        has_alpha = beyond > 0 and bool(self.extra) and self.extra[0] in ALPHA
        return max(0, beyond - has_alpha)

    @property
    def is_signed_byte(self) -> bool:
        """Pillow reads these as if they were not signed."""
        return self.bits[0] == 8 and self.formats[0] == 2

    @property
    def nodata(self) -> float | None:
        """The value that means "no data", as GDAL writes it."""
        try:
            return float(str(self._nodata).strip("\0 ")) if self._nodata is not None else None
        except ValueError:
            return None

    def describe(self) -> str:
        kind = SAMPLE_KINDS.get(self.formats[0], "complex")
        bands = "1 band" if self.samples == 1 else f"{self.samples} bands"
        return f"a TIFF of {bands} of {kind}{self.bits[0]} a pixel"


def _numbers(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, tuple) else (value,)
    return tuple(int(each) for each in values)


def describe(content: bytes) -> str:
    """A few words on what a file is that cannot be read as an image."""
    if not content:
        return "an empty file"
    if content.startswith(TIFF):
        try:
            stream = io.BytesIO(content)
            tags = TiffImagePlugin.ImageFileDirectory_v2(stream.read(16 if content[2:4] in (b"+\0", b"\0+") else 8))
            stream.seek(tags.next)
            tags.load(stream)
            return (
                f"{TiffTags(tags).describe()}, which is not read; convert it to a PNG, or to uint8, uint16 or float32 "
                "in which 0 is black"
            )
        except Exception:  # damaged bytes make Pillow's parser raise almost anything
            return "a damaged TIFF"
    head = content[:200].lstrip()
    for place, magic, words in OTHERS:
        if content[place : place + len(magic)] == magic or (not place and head.startswith(magic)):
            return f"{words}, not an image" if "convert" not in words else words
    return "not an image"
