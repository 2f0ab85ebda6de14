"""Decode an image file to an array: the only code that does so, in training and in production."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from darkroom.images.containers import (
    MAX_SCANS,
    PNG,
    TiffTags,
    describe,
    has_many_scans,
    is_animated,
    needed_chunks,
    orientation,
    webp_size,
)
from darkroom.images.depth import DARK, FULL, DeepImage, Range, is_deep, is_gray, switch_to_low_bytes, to_bytes
from darkroom.images.effort import HeaderStream, check_tiff

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000")
MAX_PIXELS = 100_000_000
# Converted at once: a large picture is not held several times over, in modes of up to eight bytes a pixel.
BAND_PIXELS = 1 << 20
GRAY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
# What turns a picture of each EXIF orientation upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LYING = (5, 6, 7, 8)
# A transparent picture lies on white, unless what is visible of it is lighter than this on average: nearly white.
LIGHT_SIGN = 191
BLACK = 0
WHITE = 255

# A JPEG may be decoded at a reduced scale that still has so many times the wanted pixels on a side; the rest is
# resampled. With 2, as PIL's thumbnails have, photographs differ from whole decoding by 1.7 of 255 on average at most
# (40 pictures of 1,000 pixels, brought to 32, 64, 128 and 224).
REDUCING_GAP = 2

Channels = Literal[1, 3]
Fit = Literal["pad", "crop", "stretch"]


class BrokenImageError(ValueError):
    """The bytes are not an image that can be decoded; the message gives the reason."""


class UnknownFormatError(BrokenImageError):
    """The bytes do not begin as an image of one of ``FORMATS`` does."""


@dataclass(frozen=True)
class Header:
    """The content of an image's header.

    ``width`` and ``height`` in pixels as a person sees it; ``channels`` 1 (gray) or 3; ``is_deep``: more than 8 bits a
    value, or signed; ``has_pages``: further pictures or pages besides the first, which is the one that counts.
    """

    width: int
    height: int
    channels: Channels
    is_deep: bool = False
    has_pages: bool = False


def read_header(content: bytes) -> Header:
    """Read the header alone. Raises BrokenImageError."""
    with open_image(content) as image:
        # A TIFF's size is turned already.
        turned = image.format != "TIFF" and orientation(image) in LYING
        width, height = reversed(image.size) if turned else image.size
        return Header(width, height, _channels(image, content), is_deep(image, content), _has_pages(image, content))


@dataclass(frozen=True)
class Decoder:
    """Converts every image of a dataset, and every image that its model classifies, to pixels.

    ``channels`` is 1 (gray) or 3, ``size`` (height, width) in pixels. ``fit`` handles other shapes: ``pad`` puts
    the whole picture between bars in the color of its border, ``crop`` cuts off both sides evenly, ``stretch`` changes
    the proportions. For pictures of more than 8 bits, ``value_range`` is mapped to 0 to 255, and ``nodata`` to 0.
    ``has_bytes`` says that the dataset also has pictures of 8 bits, which are not changed. ``bands`` are read from
    pictures with more bands than colors and transparency.
    """

    channels: Channels
    size: tuple[int, int]
    fit: Fit = "crop"
    value_range: Range | None = None
    nodata: tuple[float, ...] = ()
    bands: tuple[int, ...] | None = None
    has_bytes: bool = False

    @classmethod
    def parse(cls, found: dict[str, Any], shape: Sequence[int]) -> Self:
        """Build it from its JSON form; for images of ``shape`` (channels, height, width) if none was recorded."""
        if not found:
            return cls(1 if shape[0] == 1 else 3, (shape[1], shape[2]))
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in found.items()
        }
        return cls(**fields)

    def as_json(self) -> dict[str, Any]:
        """The form that ``parse`` reads."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def __call__(self, content: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """Decode the file ``content`` to uint8 [channels, *size].

        Of several pictures or pages the first is taken. It is turned upright as its EXIF tag says. Where the file says
        that it is transparent it is laid on white, or on black if it is nearly white itself; a transparency that hides
        all of it is ignored.

        Raises BrokenImageError if the content cannot be decoded to its last byte, or has bands or values that the
        decoder has no rule for; and before it is decoded if the header has more pixels than ``max_pixels``.
        """
        if has_many_scans(content):
            raise BrokenImageError(f"a JPEG of more than {MAX_SCANS} scans")
        with open_image(content, max_pixels) as image:
            turn = UPRIGHT.get(orientation(image)) if image.format != "TIFF" else None
            self._reduce(image, is_lying=turn is not None and orientation(image) in LYING)
            picture = self._picture(image, content)
            picture = picture.transpose(turn) if turn is not None else picture
            return fit(picture, self.channels, self.size, self.fit)

    def _reduce(self, image: Image.Image, *, is_lying: bool) -> None:
        """Have a JPEG decoded at a half, a quarter or an eighth of its size if the result is smaller still.

        libjpeg then skips the high frequencies of each block, which takes a fraction of the time.
        """
        height, width = reversed(self.size) if is_lying else self.size
        scales = (width / image.width, height / image.height)
        scale = REDUCING_GAP * (min(scales) if self.fit == "pad" else max(scales))
        image.draft(None, (ceil(scale * image.width), ceil(scale * image.height)))  # of no effect on other formats

    def _picture(self, image: Image.Image, content: bytes) -> Image.Image:
        """The picture with 8 bits per band and the decoder's channels, without transparency."""
        chosen = choose_bands(image, self.bands)
        if is_deep(image, content):
            return _convert(self._shown(load_deep(image, content, self.bands), chosen), self.channels)
        if chosen is not None:
            image.load()
            bands = [image.getchannel(band) for band in chosen]
            image = bands[0] if len(bands) == 1 else Image.merge("RGB", bands)
        picture = _convert(image, self.channels)
        return picture.point(self._levels()) if self.value_range and not self.has_bytes else picture

    def _shown(self, deep: DeepImage, chosen: Sequence[int] | None) -> Image.Image:
        colors = list(chosen if chosen is not None else range(deep.bands))
        has_alpha = deep.has_alpha and chosen is None
        limits = self.value_range or _full_range(deep)
        nodata = self.nodata if deep.nodata is None else (*self.nodata, deep.nodata)
        pixels = np.empty((deep.height, deep.width, len(colors) + has_alpha), dtype=np.uint8)
        for top in deep.chunks():
            values = deep.rows(top, min(top + deep.step, deep.height))
            band = pixels[top : top + len(values)]
            band[..., : len(colors)] = to_bytes(values[..., colors], limits, nodata)
            if has_alpha:
                band[..., -1] = values[..., -1].astype(np.uint16) >> 8
        return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)

    def _levels(self) -> list[int]:
        """The new value of each of the 256 levels of 8 bits, for each channel."""
        assert self.value_range, "asked for where there is one"
        low, high = self.value_range
        if (low, high) == FULL:
            return list(range(256)) * self.channels
        if low < 0 or high > WHITE:
            raise BrokenImageError(
                f"8 bits a value, but the dataset's are {low:g} to {high:g}; give it in the depth of the others"
            )
        levels: list[int] = to_bytes(np.arange(256), self.value_range, self.nodata).tolist()
        return levels * self.channels


def load_deep(image: Image.Image, content: bytes, bands: Sequence[int] | None) -> DeepImage:
    """The values of an open picture of more than 8 bits, for which ``choose_bands`` was called with ``bands``.

    Raises BrokenImageError.
    """
    low = None
    if image.mode in ("RGB", "RGBA") and not is_gray(content):
        with open_image(content) as second:
            choose_bands(second, bands)
            if not switch_to_low_bytes(second, content):
                raise BrokenImageError("16-bit color in planes; save it with its colors side by side")
            second.load()
            low = second.copy()
    if is_gray(content):
        # Both bytes of the gray and both of the transparency.
        image.tile = [each._replace(args="RGBA") for each in image.tile]  # type: ignore[attr-defined]  # of a file
    image.load()
    return DeepImage(image, low, content)


def fit(image: Image.Image, channels: Channels, size: tuple[int, int], how: Fit) -> NDArray[np.uint8]:
    """A decoded image as uint8 [channels, *size], fitted to ``size`` (height, width) by the method ``how``."""
    image = _convert(image, channels)
    height, width = size
    if image.size != (width, height):
        # Lanczos keeps small details when shrinking and is PIL's own choice for thumbnails.
        method = Image.Resampling.LANCZOS
        if how == "crop":
            image = ImageOps.fit(image, (width, height), method)
        elif how == "stretch":
            image = image.resize((width, height), method)
        else:
            image = _pad(image, width, height, method)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _pad(image: Image.Image, width: int, height: int, method: Image.Resampling) -> Image.Image:
    scale = min(width / image.width, height / image.height)
    inner = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
    whole = image.resize(inner, method)
    if inner == (width, height):
        return whole
    padded = Image.new(image.mode, (width, height), _border(whole))
    padded.paste(whole, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return padded


def _border(image: Image.Image) -> Any:
    """The median color of a picture's border: the ground of a drawing, black around an X-ray."""
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    middle = np.median(border, axis=0).astype(int).tolist()
    return tuple(middle) if isinstance(middle, list) else middle


@contextmanager
def open_image(content: bytes, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an image. Any failure while it is open is a BrokenImageError."""
    if size := webp_size(content):
        _check_size(*size, max_pixels)
    try:
        check_tiff(content)
        stream = HeaderStream(needed_chunks(content) if content.startswith(PNG) else content)
        with warnings.catch_warnings():
            # We hold a bound of our own, and what is wrong with a picture is said once, by its refusal.
            warnings.simplefilter("ignore")
            image = Image.open(stream, formats=FORMATS)
            with image:
                stream.end_of_header()
                _check_size(image.width, image.height, max_pixels)
                yield image
    except (BrokenImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UnknownFormatError(describe(content)) from None
    except Image.DecompressionBombError:
        # Pillow's own bound is the larger one, but it is checked first.
        raise BrokenImageError(f"more than {max_pixels:,} pixels") from None
    # Damaged bytes make PIL's parsers raise almost anything: SyntaxError, struct.error, KeyError, ...
    except Exception as problem:
        raise BrokenImageError(str(problem) or type(problem).__name__) from None


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if not 0 < width * height <= max_pixels:
        limit = f"more than {max_pixels:,}" if width * height else "none at all"
        raise BrokenImageError(f"{width}x{height} pixels, {limit}")


def _channels(image: Image.Image, content: bytes) -> Channels:
    if image.mode in GRAY_MODES or is_gray(content):
        return 1
    if image.mode != "P":
        return 3
    palette = np.asarray(image.getpalette() or [0], dtype=np.uint8)
    colors = palette[: len(palette) // 3 * 3].reshape(-1, 3)
    return 1 if (colors == colors[:, :1]).all() else 3


def _has_pages(image: Image.Image, content: bytes) -> bool:
    # A photograph in several pictures (MPO) holds a preview or a map of its brightness besides.
    if image.format == "PNG":
        return is_animated(content)
    return image.format != "MPO" and bool(getattr(image, "is_animated", False))


def choose_bands(image: Image.Image, bands: Sequence[int] | None) -> Sequence[int] | None:
    """Make an open TIFF with bands beyond its colors give those that are wanted; None if it has no further bands.

    Raises BrokenImageError if it has and none are chosen, or they cannot be had.
    """
    tags = TiffTags.of(image)
    if tags is None or not tags.further:
        return None
    what = f"{tags.samples} bands, {tags.further} of them without a meaning"
    if bands is None:
        raise BrokenImageError(f"{what}; set preprocess.bands to those that are the picture, such as [0, 1, 2]")
    if max(bands) >= tags.samples:
        raise BrokenImageError(f"{tags.samples} bands, but preprocess.bands is {list(bands)}; the first one is 0")
    mode = {2: "LA", 4: "RGBA"}.get(tags.samples)
    if mode and not tags.is_planar and image.mode in ("L", "RGB", "RGBA"):
        depth = image.tile[0].args[0].partition(";")[1:]  # type: ignore[attr-defined]  # of a file
        image._mode = mode
        image.tile = [each._replace(args=(mode + "".join(depth), *each.args[1:])) for each in image.tile]  # type: ignore[attr-defined]
    elif max(bands) >= len(image.getbands()):
        raise BrokenImageError(f"{what}; only bands 0 to {len(image.getbands()) - 1} can be read")
    return bands


def _full_range(deep: DeepImage) -> Range:
    """The range for a 16-bit picture that uses its full range, for a model trained on 8 bits.

    Raises BrokenImageError for others, which the model would see all black or all white.
    """
    found = "values with a sign, of 32 bits or of floats"
    if deep.is_uint16:
        highest = max(int(deep.rows(top, min(top + deep.step, deep.height)).max()) for top in deep.chunks())
        if highest >= DARK:
            return FULL
        found = f"16-bit values up to {highest:,}"
    raise BrokenImageError(f"{found}, where 8 bits are expected; set preprocess.value_range, or convert it to 8 bits")


def _convert(image: Image.Image, channels: Channels) -> Image.Image:
    """An image with 8 bits per band in gray or color, without transparency."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and not image.has_transparency_data:
        return image
    image.load()
    ground = _ground(image) if image.has_transparency_data else None
    rows = max(1, BAND_PIXELS // image.width)
    if rows >= image.height:
        return _convert_band(image, mode, ground)
    converted = Image.new(mode, image.size)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        converted.paste(_convert_band(band, mode, ground), (0, top))
    return converted


def _ground(image: Image.Image) -> int | None:
    """The gray that shows what is visible of a transparent picture; None if nothing is, and it is not transparent."""
    light = visible = 0.0
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        alpha = np.asarray(band.getchannel("A"), dtype=np.float32)
        visible += float(alpha.sum())
        light += float((np.asarray(band.convert("RGB").convert("L"), dtype=np.float32) * alpha).sum())
    if not visible:
        return None
    return BLACK if light > LIGHT_SIGN * visible else WHITE


def _convert_band(image: Image.Image, mode: str, ground: int | None) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if ground is not None:
            paper = Image.new("RGBA", image.size, (ground, ground, ground))
            image = Image.alpha_composite(paper, image)
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)
