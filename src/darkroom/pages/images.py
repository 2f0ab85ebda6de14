"""Images in a page, written into its HTML."""

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Images of so few pixels a side are shown as they are, as squares of color. Larger ones are photographs.
FEW_PIXELS = 64
JPEG_QUALITY = 80


def data_uri(pixels: NDArray[np.uint8], side: int) -> str:
    """An image [C, H, W] as a PNG if it is small, else as a JPEG whose sides are at most ``side``."""
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    written = io.BytesIO()
    if max(picture.size) <= FEW_PIXELS:
        kind = "png"
        picture.save(written, "PNG", optimize=True)
    else:
        kind = "jpeg"
        picture.thumbnail((side, side))
        picture.save(written, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(written.getvalue()).decode()}"


def figure_uri(path: Path) -> str:
    """A figure, which is a PNG file."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
