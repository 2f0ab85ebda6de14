"""From one image file to one array: the only transform between a picture and the model's pixels."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
MAX_PIXELS = 100_000_000
# Converted at once: a large picture is not held several times over, in modes of up to eight bytes a pixel.
BAND_PIXELS = 1 << 20
LYING = (5, 6, 7, 8)  # the EXIF orientations of pictures that lie on their side
DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "F"})
GREY_MODES = DEEP_MODES | {"1", "L", "LA", "La"}

Channels = Literal[1, 3]


class BrokenImageError(ValueError):
    """The bytes are not an image that can be decoded; the message says why."""


class UnknownFormatError(BrokenImageError):
    """The bytes do not begin as an image of one of ``FORMATS`` does."""


@dataclass(frozen=True)
class Header:
    """What an image's header tells: its size in pixels as a person sees it, and 1 (grey) or 3 channels."""

    width: int
    height: int
    channels: Channels


def is_image_name(name: str) -> bool:
    """Whether a file's name is that of an image: a known suffix, and not hidden."""
    path = PurePath(name)
    return path.suffix.lower() in SUFFIXES and not any(
        part.startswith(".") or part == "__MACOSX" for part in path.parts
    )


def read_header(content: bytes) -> Header:
    """Read the header alone. Raises BrokenImageError."""
    with _open(io.BytesIO(content)) as image:
        # A PNG's own getexif would decode the whole picture.
        orientation = Image.Image.getexif(image).get(0x0112)
        # A TIFF's size is turned already.
        turned = orientation in LYING and image.format != "TIFF"
        width, height = reversed(image.size) if turned else image.size
        return Header(width, height, 1 if image.mode in GREY_MODES else 3)


def decode(
    content: bytes | BinaryIO,
    channels: Channels,
    size: tuple[int, int],
    *,
    max_pixels: int = MAX_PIXELS,
    single: bool = False,
) -> NDArray[np.uint8]:
    """Decode an image to uint8 [channels, height, width].

    The picture is turned upright as its EXIF tag says, laid on white where it is transparent, made
    grey or colour, and scaled to fill ``size`` (height, width), cropping evenly what stands over.
    Raises BrokenImageError if the content cannot be decoded to its last byte, and before it is decoded if the header
    tells of more pixels than ``max_pixels``, or of several pictures where a ``single`` one is wanted. Of several the
    first is taken otherwise.
    """
    stream = io.BytesIO(content) if isinstance(content, bytes) else content
    with _open(stream, max_pixels) as image:
        # A photograph in several pictures (MPO) holds a preview or a map of its brightness besides.
        if single and image.format != "MPO" and getattr(image, "is_animated", False):
            raise BrokenImageError("holds several pictures or pages, expected one")
        ImageOps.exif_transpose(image, in_place=True)  # which loads it
        return fit(image, channels, size)


def fit(image: Image.Image, channels: Channels, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A decoded image as uint8 [channels, height, width], scaled and cropped to ``size``."""
    image = _convert(image, channels)
    height, width = size
    if image.size != (width, height):
        # Lanczos keeps small details when shrinking and is PIL's own choice for thumbnails.
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def read(path: Path, channels: Channels, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode an image file; see ``decode``."""
    with path.open("rb") as opened:
        return decode(opened, channels, size)


@contextmanager
def _open(stream: BinaryIO, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """An open image. Whatever fails while it is open is a BrokenImageError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we hold a bound of our own
            image = Image.open(stream, formats=FORMATS)
        with image:
            pixels = image.width * image.height
            if not 0 < pixels <= max_pixels:
                limit = f"more than {max_pixels:,}" if pixels else "none at all"
                raise BrokenImageError(f"{image.width}x{image.height} pixels, {limit}")
            yield image
    except BrokenImageError:
        raise
    except UnidentifiedImageError:
        raise UnknownFormatError("not an image") from None
    # Damaged bytes make PIL's parsers raise almost anything: SyntaxError, struct.error, KeyError, ...
    except Exception as problem:
        raise BrokenImageError(str(problem) or type(problem).__name__) from None


def _convert(image: Image.Image, channels: Channels) -> Image.Image:
    """The image in grey or colour, eight bits a channel, without transparency."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and not image.has_transparency_data:
        return image
    brightest = 65535.0
    if image.mode == "F":
        brightest = max(float(image.getextrema()[1]), 1.0)  # type: ignore[arg-type]  # of one channel
    rows = max(1, BAND_PIXELS // image.width)
    if rows >= image.height:
        return _convert_band(image, mode, brightest)
    converted = Image.new(mode, image.size)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        converted.paste(_convert_band(band, mode, brightest), (0, top))
    return converted


def _convert_band(image: Image.Image, mode: str, brightest: float) -> Image.Image:
    if image.mode in DEEP_MODES:
        # PIL clips deeper greys at 255 instead of scaling them.
        deep = np.asarray(image, dtype=np.float64)
        if not np.isfinite(deep).all():
            raise ValueError("has pixels that are infinite or not a number")
        image = Image.fromarray((deep * (255.0 / brightest)).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image if image.mode == mode else image.convert(mode)
