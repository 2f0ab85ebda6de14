"""From the bytes that somebody sends to the pixels that the model sees."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.data.images import MAX_PIXELS, BrokenImageError, Decoder, UnknownFormatError, read_header
from darkroom.data.ink import Ink, place
from darkroom.serving.wording import one_line

# Mean brightness of training images, 0 to 1, below which they are light on dark and above which dark on light.
# Between the two they are neither, as photographs are.
LIGHT_ON_DARK, DARK_ON_LIGHT = 0.4, 0.6


READ = "png, jpeg, webp, bmp, tiff, gif, pnm, avif or jpeg 2000"


class RefusedImageError(ValueError):
    """The bytes are not a picture that is answered; the message says why, in one line."""


@dataclass(frozen=True)
class Seen:
    """What the model sees of a picture: ``pixels`` uint8 [C, H, W], the negative of the picture if ``inverted``."""

    pixels: NDArray[np.uint8]
    inverted: bool


class Transform:
    """The way of a picture to a model that takes images of ``shape`` (channels, height, width).

    ``mean`` is the mean brightness of each channel of its training images, 0 to 1; ``ink`` their layout, if they are
    drawn signs; ``decoder`` is how they became pixels.
    """

    def __init__(
        self, shape: Sequence[int], mean: Sequence[float] | None, ink: Ink | None = None, decoder: Decoder | None = None
    ) -> None:
        self.decoder = decoder or Decoder.parse({}, shape)
        self.mean = mean
        self.ink = ink

    def __call__(
        self, content: bytes, *, invert: bool | None = None, drawn: bool = False, max_pixels: int = MAX_PIXELS
    ) -> Seen:
        """Decode a picture as preprocessing does.

        ``invert`` makes the model see its negative; by default it does where the picture is dark on light and the
        training images light on dark, or the other way round. A ``drawn`` sign is laid out like those of the training
        images, if they are drawn signs. Raises RefusedImageError, before decoding where the header tells: of more than
        ``max_pixels``, or of another form than the decoder reads.
        """
        try:
            if drawn and self.ink is not None:
                header = read_header(content)
                drawing = Decoder(1, (header.height, header.width))(content, max_pixels=max_pixels)
                return self._lay_out(drawing, self.ink, invert)
            pixels = self.decoder(content, max_pixels=max_pixels)
        except UnknownFormatError as problem:
            raise RefusedImageError(f"{problem}; expected {READ}") from None
        except BrokenImageError as problem:
            raise RefusedImageError(one_line(problem)) from None
        turned = self._is_negative(pixels) if invert is None else invert
        return Seen(255 - pixels if turned else pixels, turned)

    def _lay_out(self, drawing: NDArray[np.uint8], ink: Ink, invert: bool | None) -> Seen:
        """A drawing, uint8 [1, h, w], as the dataset lays out its signs. They are all on a light ground or none is."""
        is_light = self.mean is not None and self.mean[0] > 0.5
        turned = _is_light(drawing) != is_light if invert is None else invert
        pixels = 255 - drawing if turned else drawing
        if is_light:
            return Seen(255 - place(255 - pixels[0], ink, self.decoder.size), turned)
        return Seen(place(pixels[0], ink, self.decoder.size), turned)

    def _is_negative(self, image: NDArray[np.uint8]) -> bool:
        """Whether a grey picture has a light border where the training images are dark, or the other way round."""
        if self.mean is None or len(self.mean) > 1:
            return False
        return self.mean[0] < LIGHT_ON_DARK if _is_light(image) else self.mean[0] > DARK_ON_LIGHT


def _is_light(image: NDArray[np.uint8]) -> bool:
    """Whether the border of a grey picture, uint8 [1, h, w], is light."""
    border = np.concatenate([image[0, 0], image[0, -1], image[0, :, 0], image[0, :, -1]])
    return bool(2 * np.count_nonzero(border > 127) > border.size)
