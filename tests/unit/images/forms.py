"""What people's image files may be, and what is read of each: the table of docs/own-images.md."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from tests.unit.images.image_files import chunk, encoded, png, tiff

GRAY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOR = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
DEEP = np.linspace(0, 65535, 48).round().astype(np.uint16).reshape(6, 8)
DEEP_COLOR = np.random.default_rng(1).integers(0, 65536, (6, 8, 3), dtype=np.uint16)
HALF = np.zeros((6, 8), np.uint8)
HALF[:, 4:] = 255


@dataclass(frozen=True)
class Form:
    """A file that ``make`` gives, of which ``pixels`` [H, W] or [H, W, 3] are read, or refused as ``refused`` matches.

    ``about`` and ``read`` are what the documentation says of it. ``decoder`` are settings of the decoder; ``within`` is
    how far a lossy form may be off.
    """

    about: str
    read: str
    make: Callable[[], bytes]
    pixels: Any = None
    refused: str = ""
    decoder: dict[str, Any] = field(default_factory=dict)
    within: int = 0


def levels(values, low, high):
    """``low`` to ``high`` as 0 to 255, rounded, in exact steps."""
    return np.clip(np.floor((values.astype(np.float64) - low) * 255 / (high - low) + 0.5), 0, 255).astype(np.uint8)


def on(ground, colors, alpha):
    """Colors [H, W, 3] with an opacity [H, W] of 0 or 255 on a ground."""
    return np.where(alpha[..., None] > 0, colors, ground)


def with_alpha(colors, alpha):
    return np.dstack([colors, alpha]).astype(np.uint8)


def sign(level):
    return np.full((6, 8, 3), level, np.uint8)


def turned(orientation, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(GRAY), exif=exif, **options)


def beside_damage():
    """An orientation of 6 beside a tag of a kind that does not exist."""
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x9999, 77, 1 << 30, 1 << 30)
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + struct.pack("<I", 0)
    return png(GRAY, 0, chunk(b"eXIf", exif))


EXIF_6 = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<I", 0)
# As ImageMagick writes it: a name, the number of bytes, and lines of hexadecimal digits.
EXIF_AS_TEXT = f"\nexif\n{len(EXIF_6):8}\n{EXIF_6.hex()}\n".encode()
XMP_6 = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def behind_pixels(content, further):
    """A PNG with a chunk at its end."""
    return content[:-12] + further + content[-12:]


def many_scans(count):
    content = encoded(Image.fromarray(COLOR), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * count + content[-2:]


def frames(form, **options):
    return encoded(Image.fromarray(GRAY), form, save_all=True, append_images=[Image.fromarray(255 - GRAY)], **options)


def with_nodata(value):
    values = np.linspace(0, 100, 48).reshape(6, 8).astype(np.float32)
    values[0, 0] = value
    return values


def black_corner(low, high, values):
    found = levels(values, low, high)
    found[0, 0] = 0
    return found


CT = np.linspace(-950, 60, 48).round().astype(np.int16).reshape(6, 8)
TWELVE = np.linspace(780, 1060, 48).round().astype(np.uint16).reshape(6, 8)
BANDS = np.random.default_rng(2).integers(0, 256, (6, 8, 4), dtype=np.uint8)
SMOOTH = np.dstack([np.arange(64)[:, None] + np.arange(64)] * 3).astype(np.uint8)
JPEG_FILE = encoded(SMOOTH, "JPEG", quality=95)
STRIP = np.zeros((4, 40), np.uint8)
STRIP[:, :4] = 200

FORMS = [
    # --- depths -----------------------------------------------------------------------------------------
    Form("1-bit PNG", "black and white", lambda: encoded(Image.fromarray(GRAY > 99)), (GRAY > 99) * 255),
    Form("2-bit gray PNG", "its four grays", lambda: png(GRAY % 4, 0, bits=2), GRAY % 4 * 85),
    Form("4-bit gray PNG", "its sixteen grays", lambda: png(GRAY % 16, 0, bits=4), GRAY % 16 * 17),
    Form("8-bit gray PNG", "as it is", lambda: encoded(GRAY), GRAY),
    Form("8-bit color PNG", "as it is", lambda: encoded(COLOR), COLOR),
    Form("16-bit gray PNG, 0 to 65,535", "each level / 257", lambda: encoded(DEEP), np.rint(DEEP / 257)),
    Form(
        "16-bit PNG that holds 0 to 255",
        "as it is, once the train split's range is found",
        lambda: encoded(GRAY.astype(np.uint16)),
        levels(GRAY, 0, 235),
        decoder={"value_range": (0, 235)},
    ),
    Form(
        "12-bit picture in a 16-bit PNG, 780 to 1,060",
        "780 is black, 1,060 white",
        lambda: encoded(TWELVE),
        levels(TWELVE, 780, 1060),
        decoder={"value_range": (780, 1060)},
    ),
    Form(
        "16-bit PNG of up to 4,095, with a model trained on 8 bits",
        "refused: it would be black",
        lambda: encoded(TWELVE),
        refused="16-bit values up to 1,060, where 8 bits are expected",
    ),
    Form("16-bit gray TIFF, big-endian", "each level / 257", lambda: tiff(DEEP, order=">"), np.rint(DEEP / 257)),
    Form("8-bit TIFF in which 0 is white", "0 is white", lambda: tiff(GRAY, photometric=0), 255 - GRAY),
    Form(
        "16-bit TIFF in which 0 is white",
        "0 is white",
        lambda: tiff(DEEP, photometric=0),
        np.rint((65535 - DEEP) / 257),
    ),
    Form("16-bit color PNG", "both bytes of each color", lambda: png(DEEP_COLOR, 2), np.rint(DEEP_COLOR / 257)),
    Form(
        "16-bit color PNG that holds 0 to 255",
        "its low bytes",
        lambda: png(COLOR.astype(np.uint16), 2),
        COLOR,
        decoder={"value_range": (0, 255)},
    ),
    Form("16-bit color TIFF", "both bytes of each color", lambda: tiff(DEEP_COLOR, 2), np.rint(DEEP_COLOR / 257)),
    Form(
        "16-bit color TIFF, big-endian",
        "both bytes of each color",
        lambda: tiff(DEEP_COLOR, 2, order=">"),
        np.rint(DEEP_COLOR / 257),
    ),
    Form(
        "16-bit PNG of gray and transparency",
        "both bytes of the gray, on white",
        lambda: png(np.dstack([DEEP, np.full_like(DEEP, 65535)]), 4),
        np.rint(DEEP / 257),
    ),
    Form(
        "16-bit PGM", "each level / 257", lambda: b"P5 8 6 65535\n" + DEEP.astype(">u2").tobytes(), np.rint(DEEP / 257)
    ),
    Form(
        "16-bit color PPM",
        "each level / 257, whatever range they have",
        lambda: b"P6 8 6 65535\n" + DEEP_COLOR.astype(">u2").tobytes(),
        np.rint(DEEP_COLOR / 257),
    ),
    # --- signs and floats ---------------------------------------------------------------------------------
    Form(
        "int16 TIFF, Hounsfield units",
        "the train split's lowest is black",
        lambda: tiff(CT),
        levels(CT, -950, 60),
        decoder={"value_range": (-950, 60)},
    ),
    Form(
        "int8 TIFF",
        "with its sign",
        lambda: tiff((GRAY.astype(int) - 120).astype(np.int8)),
        levels(GRAY.astype(int) - 120, -128, 127),
        decoder={"value_range": (-128, 127)},
    ),
    Form(
        "int32 TIFF, 0 to 255",
        "one range for all",
        lambda: tiff(GRAY.astype(np.int32)),
        levels(GRAY, 0, 255),
        decoder={"value_range": (0, 255)},
    ),
    Form(
        "float32 TIFF, -0.9 to -0.1",
        "one range for all",
        lambda: tiff(np.linspace(-0.9, -0.1, 48, dtype=np.float32).reshape(6, 8)),
        levels(np.linspace(-0.9, -0.1, 48, dtype=np.float32).reshape(6, 8), -0.9, -0.1),
        decoder={"value_range": (-0.9, -0.1)},
        within=1,
    ),
    Form(
        "float32 TIFF with pixels that are no number",
        "those are black; counted in a line",
        lambda: tiff(with_nodata(np.nan)),
        black_corner(0, 100, with_nodata(50)),
        decoder={"value_range": (0, 100)},
    ),
    Form(
        "float32 TIFF with 3.4e38 where nothing was measured",
        "those are black; counted in a line",
        lambda: tiff(with_nodata(3.4e38)),
        black_corner(0, 100, with_nodata(50)),
        decoder={"value_range": (0, 100)},
    ),
    Form(
        "TIFF that names its value for missing data (GDAL)",
        "those are black; counted in a line",
        lambda: tiff(with_nodata(70), nodata="70"),
        black_corner(0, 100, with_nodata(50)),
        decoder={"value_range": (0, 100)},
    ),
    Form(
        "float32 TIFF, with a model trained on 8 bits",
        "refused: its range is unknown",
        lambda: tiff(with_nodata(1)),
        refused="with a sign, of 32 bits or of floats, where 8 bits are expected; set preprocess.value_range",
    ),
    Form(
        "float64 TIFF",
        "refused; the error says what it is",
        lambda: tiff(with_nodata(1).astype(np.float64)),
        refused="a TIFF of 1 band of float64 a pixel, which is not read; convert it",
    ),
    Form(
        "8-bit picture, with a model trained on 780 to 1,060",
        "refused: another depth",
        lambda: encoded(GRAY),
        refused="8 bits a value, but the dataset's are 780 to 1060",
        decoder={"value_range": (780, 1060)},
    ),
    # --- bands --------------------------------------------------------------------------------------------
    Form(
        "TIFF of 4 bands, the fourth without a meaning (near infrared)",
        "refused: `preprocess.bands` chooses",
        lambda: tiff(BANDS, 2),
        refused=r"4 bands, 1 of them without a meaning; set preprocess.bands to those that are the picture",
    ),
    Form(
        "the same with `bands: [0, 1, 2]`",
        "red, green, blue",
        lambda: tiff(BANDS, 2),
        BANDS[..., :3],
        decoder={"bands": (0, 1, 2)},
    ),
    Form(
        "the same with `bands: [3, 0, 1]`",
        "infrared as red",
        lambda: tiff(BANDS, 2, extra=(0,)),
        BANDS[..., [3, 0, 1]],
        decoder={"bands": (3, 0, 1)},
    ),
    Form(
        "the same with `bands: [3]`", "infrared as gray", lambda: tiff(BANDS, 2), BANDS[..., 3], decoder={"bands": (3,)}
    ),
    Form(
        "the same with `bands: [4]`",
        "refused: no such band",
        lambda: tiff(BANDS, 2),
        refused=r"4 bands, but preprocess.bands is \[4\]",
        decoder={"bands": (4,)},
    ),
    Form(
        "TIFF of 4 bands of 16 bits with `bands: [3, 0, 1]`",
        "both bytes of each",
        lambda: tiff(BANDS.astype(np.uint16) * 257, 2),
        BANDS[..., [3, 0, 1]],
        decoder={"bands": (3, 0, 1)},
    ),
    Form(
        "TIFF of 2 bands, the second without a meaning",
        "refused: `preprocess.bands` chooses",
        lambda: tiff(BANDS[..., :2], 1, extra=(0,)),
        refused="2 bands, 1 of them without a meaning",
    ),
    Form(
        "TIFF of 13 bands (satellite)",
        "refused; the error says what it is",
        lambda: tiff(np.zeros((6, 8, 13), np.uint16), 1),
        refused="a TIFF of 13 bands of uint16 a pixel, which is not read",
    ),
    Form(
        "CMYK JPEG",
        "the color of its inks",
        lambda: encoded(Image.new("CMYK", (8, 6), (255, 0, 0, 0)), "JPEG"),
        np.full((6, 8, 3), (0, 255, 255)),
        within=4,
    ),
    Form(
        "CMYK TIFF",
        "the color of its inks",
        lambda: encoded(Image.new("CMYK", (8, 6), (0, 255, 0, 0)), "TIFF"),
        np.full((6, 8, 3), (255, 0, 255)),
        within=4,
    ),
    # --- transparency ---------------------------------------------------------------------------------------
    Form(
        "dark sign on transparent ground",
        "on white",
        lambda: encoded(with_alpha(sign(20), HALF)),
        on(255, sign(20), HALF),
    ),
    Form(
        "white sign on transparent ground",
        "on black",
        lambda: encoded(with_alpha(sign(250), HALF)),
        on(0, sign(250), HALF),
    ),
    Form("transparency 0 everywhere", "ignored: the colors", lambda: encoded(with_alpha(COLOR, HALF * 0)), COLOR),
    Form(
        "TIFF with a declared transparency",
        "on white",
        lambda: tiff(with_alpha(sign(20), HALF), 2, extra=(2,)),
        on(255, sign(20), HALF),
    ),
    Form(
        "gray with transparency",
        "on white",
        lambda: encoded(np.dstack([sign(20)[..., 0], HALF])),
        on(255, sign(20), HALF)[..., 0],
    ),
    Form(
        "PNG with one transparent gray",
        "that one is white",
        lambda: encoded(GRAY // 2, transparency=5),
        np.where(GRAY // 2 == 5, 255, GRAY // 2),
    ),
    Form(
        "16-bit PNG with transparency",
        "both bytes, on white",
        lambda: png(np.dstack([DEEP_COLOR // 2, HALF.astype(np.uint16) * 257]), 6),
        on(255, np.rint(DEEP_COLOR // 2 / 257), HALF),
    ),
    # --- palettes -------------------------------------------------------------------------------------------
    Form(
        "PNG with a palette",
        "its colors",
        lambda: encoded(Image.fromarray(COLOR).quantize(64)),
        np.asarray(Image.fromarray(COLOR).quantize(64).convert("RGB")),
    ),
    Form(
        "palette of grays",
        "gray",
        lambda: png(GRAY, 3, chunk(b"PLTE", bytes(np.arange(256, dtype=np.uint8).repeat(3)))),
        GRAY,
    ),
    # --- pages, frames, what follows ---------------------------------------------------------------------------
    Form("TIFF of two pages", "the first; counted in a line", lambda: frames("TIFF"), GRAY),
    Form("animated GIF", "the first frame; counted in a line", lambda: frames("GIF"), GRAY),
    Form("animated WebP", "the first frame; counted in a line", lambda: frames("WEBP", lossless=True), GRAY),
    Form("animated PNG", "its default image; counted in a line", lambda: frames("PNG"), GRAY),
    Form(
        "motion photo: a JPEG followed by a video",
        "the JPEG",
        lambda: JPEG_FILE + b"\0\0\0\x18ftypmp42" + b"\xff\xda\0\x08" * 500,
        SMOOTH,
        within=4,
    ),
    Form(
        "two pictures in one JPEG (MPO)",
        "the first",
        lambda: encoded(Image.new("L", (8, 6), 255), "MPO", save_all=True, append_images=[Image.new("L", (4, 4))]),
        np.full((6, 8), 255),
        within=4,
    ),
    Form(
        "JPEG of more than 100 scans",
        "refused: it takes minutes",
        lambda: many_scans(100),
        refused="a JPEG of more than 100 scans",
    ),
    # --- metadata ---------------------------------------------------------------------------------------------
    Form("EXIF orientation 6", "turned upright", lambda: turned(6), np.rot90(GRAY, -1)),
    Form("EXIF orientation 7", "turned upright", lambda: turned(7), np.rot90(GRAY.T, 2)),
    Form("orientation beside a damaged tag", "turned upright", beside_damage, np.rot90(GRAY, -1)),
    Form(
        "PNG with EXIF behind its pixels",
        "turned upright",
        lambda: behind_pixels(png(GRAY, 0), chunk(b"eXIf", EXIF_6)),
        np.rot90(GRAY, -1),
    ),
    Form(
        "PNG with EXIF as a text, as of ImageMagick",
        "turned upright",
        lambda: png(GRAY, 0, chunk(b"tEXt", b"Raw profile type exif\0" + EXIF_AS_TEXT)),
        np.rot90(GRAY, -1),
    ),
    Form(
        "the same, compressed",
        "turned upright",
        lambda: png(GRAY, 0, chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(EXIF_AS_TEXT))),
        np.rot90(GRAY, -1),
    ),
    Form(
        "the same, damaged or of 2 MiB",
        "its pixels",
        lambda: png(GRAY, 0, chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(2 << 20)))),
        GRAY,
    ),
    Form(
        "PNG with an orientation in XMP",
        "turned upright",
        lambda: behind_pixels(png(GRAY, 0), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP_6)),
        np.rot90(GRAY, -1),
    ),
    Form("PNG with a damaged EXIF chunk", "its pixels", lambda: png(GRAY, 0, chunk(b"eXIf", b"\xee" * 40)), GRAY),
    Form(
        "PNG with a text of 2 MiB",
        "its pixels",
        lambda: png(GRAY, 0, chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(2 << 20)))),
        GRAY,
    ),
    Form(
        "PNG with a damaged color profile",
        "its pixels",
        lambda: png(GRAY, 0, chunk(b"iCCP", b"profile\0\0" + bytes(50))),
        GRAY,
    ),
    Form(
        "WebP with damaged EXIF",
        "its pixels",
        lambda: encoded(GRAY, "WEBP", lossless=True, exif=b"Exif\0\0XX\0*garbage"),
        GRAY,
    ),
    # --- formats ----------------------------------------------------------------------------------------------
    Form("JPEG", "as it is", lambda: JPEG_FILE, SMOOTH, within=4),
    Form("BMP", "as it is", lambda: encoded(COLOR, "BMP"), COLOR),
    Form("lossless WebP", "as it is", lambda: encoded(COLOR, "WEBP", lossless=True), COLOR),
    Form("GIF", "its colors", lambda: encoded(GRAY, "GIF"), GRAY),
    Form("PGM, PPM", "as it is", lambda: encoded(COLOR, "PPM"), COLOR),
    Form(
        "AVIF",
        "as it is",
        lambda: encoded(np.full((6, 8, 3), 90, np.uint8), "AVIF", quality=100),
        np.full((6, 8, 3), 90),
        within=4,
    ),
    Form(
        "JPEG 2000",
        "as it is",
        lambda: encoded(GRAY.repeat(8, 0).repeat(8, 1), "JPEG2000"),
        GRAY.repeat(8, 0).repeat(8, 1),
        within=2,
    ),
    Form(
        "HEIC",
        "refused; the error says what it is",
        lambda: b"\0\0\0\x18ftypheic" + bytes(40),
        refused="a HEIC picture; convert it to JPEG or PNG",
    ),
    Form(
        "DICOM", "refused; the error says what it is", lambda: bytes(128) + b"DICM" + bytes(40), refused="a DICOM file"
    ),
    Form(
        "web page saved as .jpg",
        "refused; the error says what it is",
        lambda: b"<!DOCTYPE html><html></html>",
        refused="a web page, not an image",
    ),
    Form("empty file", "refused; the error says what it is", lambda: b"", refused="an empty file"),
    Form("file that ends too early", "refused: never half a picture", lambda: JPEG_FILE[:-200], refused="truncated"),
    # --- shapes -----------------------------------------------------------------------------------------------
    Form(
        "picture ten times as wide as it is high, `fit: pad`",
        "all of it, between bars in the color of its border",
        lambda: encoded(STRIP),
        np.pad(STRIP, ((18, 18), (0, 0))),
        decoder={"size": (40, 40), "fit": "pad"},
    ),
    Form(
        "the same, `fit: crop`",
        "its middle",
        lambda: encoded(STRIP),
        np.zeros((4, 4)),
        decoder={"size": (4, 4), "fit": "crop"},
    ),
    Form(
        "the same, `fit: stretch`",
        "all of it, squeezed",
        lambda: encoded(np.full((4, 40), 7, np.uint8)),
        np.full((8, 8), 7),
        decoder={"size": (8, 8), "fit": "stretch"},
    ),
]
