"""Heat maps as pictures: a layer of color over an image in gray."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Heat = NDArray[np.float32]
# The colors of little and of much heat: yellow and red.
LITTLE, MUCH = (255, 205, 60), (215, 20, 30)
# The image stays visible below.
OPAQUE = 0.75
# Small images are enlarged, pixel by pixel, to about this many pixels a side.
LARGE = 224
# Of a color to its gray, as in ITU-R BT.601.
GRAY = (0.299, 0.587, 0.114)


def heat_layer(heat: Heat) -> NDArray[np.uint8]:
    """A layer RGBA uint8 [H, W, 4] for ``heat`` [H, W], 0 to 1: the opacity is the heat, of 255."""
    share = heat[..., None]
    color = (1 - share) * LITTLE + share * MUCH
    return np.concatenate([color, 255 * share], -1).round().astype(np.uint8)


def tinted(image: NDArray[np.uint8], heat: Heat) -> NDArray[np.uint8]:
    """The ``image`` uint8 [C, H, W] in gray, tinted by its ``heat`` [H, W]: uint8 [3, H, W]."""
    gray = image[0] if len(image) == 1 else np.tensordot(GRAY, image[:3], 1)
    layer = heat_layer(heat).astype(np.float32)
    share = OPAQUE * layer[..., 3:] / 255
    mixed = (1 - share) * gray[..., None] + share * layer[..., :3]
    return mixed.round().astype(np.uint8).transpose(2, 0, 1)


def beside(image: NDArray[np.uint8], heat: Heat) -> Image.Image:
    """The ``image`` uint8 [C, H, W], and to its right the same tinted by its ``heat`` [H, W]; enlarged if small."""
    plain = np.broadcast_to(image, (3, *image.shape[1:])) if len(image) == 1 else image[:3]
    both = np.concatenate([plain, tinted(image, heat)], 2).transpose(1, 2, 0)
    times = max(1, LARGE // max(image.shape[1:]))
    return Image.fromarray(np.repeat(np.repeat(both, times, 0), times, 1))


def png(picture: Image.Image) -> bytes:
    """The PNG file of a picture."""
    written = io.BytesIO()
    picture.save(written, "PNG")
    return written.getvalue()
