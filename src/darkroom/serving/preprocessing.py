"""From the bytes that somebody sends to the pixels that the model sees."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.data.glyph_layout import GlyphLayout, Ground, on_light, place
from darkroom.images.decoder import MAX_PIXELS, BrokenImageError, Decoder, UnknownFormatError, open_image, read_header
from darkroom.serving.messages import one_line

READ = "png, jpeg, webp, bmp, tiff, gif, pnm, avif or jpeg 2000"


class RefusedImageError(ValueError):
    """The bytes are not a picture that is answered; the message says why, in one line."""


@dataclass(frozen=True)
class Options:
    """How a request wants its pictures to be seen; see ``Transform``."""

    invert: bool | None = None
    drawn: bool = False


@dataclass(frozen=True)
class ModelInput:
    """What the model sees of a picture: ``pixels`` uint8 [C, H, W], the negative of the picture if ``inverted``."""

    pixels: NDArray[np.uint8]
    inverted: bool


def count_pixels(content: bytes, max_pixels: int) -> int:
    """The number of a picture's pixels, of which none is decoded.

    Raises RefusedImageError, also if they are more than ``max_pixels``.
    """
    with _refusing(), open_image(content, max_pixels) as image:
        return image.width * image.height


@contextmanager
def _refusing() -> Iterator[None]:
    """What a decoder cannot read, in words for whoever has sent it."""
    try:
        yield
    except UnknownFormatError as problem:
        raise RefusedImageError(f"{problem}; expected {READ}") from None
    except BrokenImageError as problem:
        raise RefusedImageError(one_line(problem)) from None


class Transform:
    """The way of a picture to a model that takes images of ``shape`` (channels, height, width).

    ``mean`` is the mean brightness of each channel of its training images, 0 to 1; ``layout`` their layout, if they are
    drawn signs, and ``ground`` what all of them lie on, if it is the same. ``decoder`` is how they became pixels.
    """

    def __init__(
        self,
        shape: Sequence[int],
        mean: Sequence[float] | None,
        layout: GlyphLayout | None = None,
        ground: Ground | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        self.decoder = decoder or Decoder.parse({}, shape)
        self.mean = mean
        self.layout = layout
        self.ground = ground

    def __call__(
        self, content: bytes, *, invert: bool | None = None, drawn: bool = False, max_pixels: int = MAX_PIXELS
    ) -> ModelInput:
        """Decode a picture as preprocessing does.

        ``invert`` makes the model see its negative; by default it does where the training images all lie on one
        ground, dark or light, and the picture on the other. A ``drawn`` sign is laid out like those of the training
        images, if they are drawn signs. Raises RefusedImageError, before decoding where the header tells: of more than
        ``max_pixels``, or of another form than the decoder reads.
        """
        with _refusing():
            if drawn and self.layout is not None:
                header = read_header(content)
                drawing = Decoder(1, (header.height, header.width))(content, max_pixels=max_pixels)
                return self._lay_out(drawing, self.layout, invert)
            pixels = self.decoder(content, max_pixels=max_pixels)
        turned = self._is_negative(pixels) if invert is None else invert
        return ModelInput(255 - pixels if turned else pixels, turned)

    def _lay_out(self, drawing: NDArray[np.uint8], layout: GlyphLayout, invert: bool | None) -> ModelInput:
        """A drawing, uint8 [1, h, w], as the dataset lays out its signs. They are all on a light ground or none is."""
        is_light = self.mean is not None and self.mean[0] > 0.5
        turned = bool(on_light(drawing[None])[0]) != is_light if invert is None else invert
        pixels = 255 - drawing if turned else drawing
        if is_light:
            return ModelInput(255 - place(255 - pixels[0], layout, self.decoder.size), turned)
        return ModelInput(place(pixels[0], layout, self.decoder.size), turned)

    def _is_negative(self, image: NDArray[np.uint8]) -> bool:
        """Whether a gray picture, uint8 [1, h, w], lies on the other ground than all the training images."""
        return self.ground in ("dark", "light") and bool(on_light(image[None])[0]) != (self.ground == "light")
