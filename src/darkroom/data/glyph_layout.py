"""Measure the layout of a dataset of drawn signs, and lay out a drawing in the same way.

MNIST fits each digit into a box of 20x20 pixels, keeping its proportions, and shifts it until its center of mass lies
in the middle of 28x28 (LeCun, Bottou, Bengio and Haffner, 1998, "Gradient-based learning applied to document
recognition", section III.A). The digits of scikit-learn fill the height of their 8x8 pixels, which are counts over
bitmaps of 32x32 (Alpaydin and Kaynak, 1998, "Optical recognition of handwritten digits", UCI). A model has never seen
a digit elsewhere or of another size, so a drawing must be laid out like them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Ground = Literal["dark", "light", "mixed"]

FOREGROUND = 32  # a pixel from here on belongs to a sign; below lie the blur of its edges and the noise of the ground
FULL = 128  # half of the brightest: such a pixel is more foreground than background
# In half of the images at least, this share of the pixels is ground. It is 0.53 for digits, 0.83 for MNIST and below
# 0.01 for photographs (CIFAR-10 in gray).
GROUND = 0.4
# A stroke is thinner than this share of the image's side, so a foreground square of that side is not a stroke.
STROKE = 3 / 8
# The share of the images that may contain such a square: 0.11 of digits do, 0.0002 of MNIST, 0.40 of Fashion-MNIST.
FILLED = 0.2
# The pixels of the longer side of a drawing while its strokes are made thinner or thicker, by an eighth at most.
FINE = 128
STEPS = 8
THICKER = FINE / 8


@dataclass(frozen=True)
class GlyphLayout:
    """What the signs of a dataset have in common, whether they are light on dark or dark on light.

    ``extent`` is the longer side of the box around a sign, as a share of the image's side; ``by_mass`` says whether
    its center of mass lies in the middle of the image, else the middle of that box does. ``stroke`` is how wide its
    strokes are, pixels of the image.
    """

    extent: float
    by_mass: bool
    stroke: float


def measure_glyphs(images: Pixels) -> GlyphLayout | None:
    """The layout of the signs in ``images`` uint8 [N, C, H, W], or None if they are no signs on an empty ground.

    Color has none, nor have photographs, textures, or filled shapes such as clothes.
    """
    if images.shape[1] != 1 or not len(images):
        return None
    signs = images[:, 0]
    if np.median(signs) > 127:
        signs = 255 - signs
    foreground = np.greater_equal(signs, FOREGROUND)
    signs, foreground = signs[foreground.any((1, 2))], foreground[foreground.any((1, 2))]
    if not len(signs) or np.median((~foreground).mean((1, 2))) < GROUND or _filled(signs) > FILLED:
        return None
    top, bottom = _ends(foreground, across=2)
    left, right = _ends(foreground, across=1)
    extent = np.maximum(bottom - top, right - left)
    mass = np.stack([_center_of_mass(signs.sum(2)), _center_of_mass(signs.sum(1))])
    box = np.stack([top + bottom, left + right]) / 2
    by_mass = np.square(mass - 0.5).sum() < np.square(box - 0.5).sum()
    return GlyphLayout(float(np.median(extent)), bool(by_mass), float(np.median(_stroke_widths(signs))))


def on_light(images: Pixels) -> NDArray[np.bool_]:
    """Whether each gray image, uint8 [N, 1, H, W], has a light background: most of its border is light. bool [N]."""
    light = images[:, 0] > 127
    border = np.concatenate([light[:, 0], light[:, -1], light[:, :, 0], light[:, :, -1]], axis=1)
    found: NDArray[np.bool_] = 2 * border.sum(1) > border.shape[1]
    return found


def common_ground(batches: Iterable[Pixels]) -> Ground:
    """The background of all gray images in ``batches``, uint8 [N, 1, H, W] each; "mixed" if there are both kinds."""
    found: set[bool] = set()
    for images in batches:
        found.update(on_light(images).tolist())
        if len(found) > 1:
            return "mixed"
    return "light" if found == {True} else "dark"


def place(drawing: Pixels, layout: GlyphLayout, size: tuple[int, int]) -> Pixels:
    """Lay out a drawing, uint8 [h, w] with light strokes on black, as the dataset does: uint8 [1, *size].

    It is scaled with its proportions kept, and its strokes made as wide as those of the dataset: where, how large and
    with what pen somebody draws makes no difference. An empty drawing gives an empty image. The strokes are light on
    black also where those of the dataset are not.
    """
    from scipy.ndimage import distance_transform_edt  # which the stages do without

    inside = _enlarge(drawing)
    if inside is None:
        return np.zeros((1, *size), np.uint8)
    inside = np.pad(inside, ceil(THICKER))
    # From the edge of a stroke, fine pixels: above 0 inside.
    distance = distance_transform_edt(inside) - distance_transform_edt(~inside)
    low, high = -THICKER, THICKER
    for _ in range(STEPS):
        thicker = (low + high) / 2
        laid = _lay((255 * (distance + thicker + 0.5).clip(0, 1)).astype(np.uint8), layout, size)
        # Measured where the dataset's are: a width in so few pixels is good only for comparison.
        if _stroke_widths(laid)[0] < layout.stroke:
            low = thicker
        else:
            high = thicker
    return laid


def _enlarge(drawing: Pixels) -> NDArray[np.bool_] | None:
    """The foreground of a drawing, FINE pixels on the longer side of its bounding box; None if there is none."""
    if drawing.max() < FOREGROUND:
        return None
    foreground = drawing >= drawing.max() / 2
    rows, columns = np.flatnonzero(foreground.any(1)), np.flatnonzero(foreground.any(0))
    sign = Image.fromarray(foreground[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]).convert("L")
    scale = FINE / max(sign.size)
    sides = (max(1, round(scale * sign.width)), max(1, round(scale * sign.height)))
    fine = np.asarray(sign.resize(sides, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR))
    found: NDArray[np.bool_] = fine >= fine.max() / 4  # so that a thin line does not vanish
    return found


def _lay(drawing: Pixels, layout: GlyphLayout, size: tuple[int, int]) -> Pixels:
    """Scale a drawing [h, w] to the extent and lay it in the middle: uint8 [1, *size]."""
    height, width = size
    foreground = drawing >= FULL
    if not foreground.any():
        return np.zeros((1, height, width), np.uint8)
    rows, columns = np.flatnonzero(foreground.any(1)), np.flatnonzero(foreground.any(0))
    pixels = drawing[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    sign = Image.fromarray(pixels)
    # The window of the drawing that becomes the image, in pixels of the drawing; it reaches beyond the sign.
    scale = max(sign.height / height, sign.width / width) / layout.extent
    window = np.array([width * scale, height * scale])
    middle = (
        [_center_of_mass(pixels.sum(0)) * sign.width, _center_of_mass(pixels.sum(1)) * sign.height]
        if layout.by_mass
        else [sign.width / 2, sign.height / 2]
    )
    left, top = np.array(middle) - window / 2
    ground = Image.new("L", (ceil(window[0]) + 1, ceil(window[1]) + 1))
    ground.paste(sign, (-floor(left), -floor(top)))
    corner = np.array([left - floor(left), top - floor(top)])
    # A box that is not of whole pixels keeps the middle exact.
    laid = ground.resize((width, height), Image.Resampling.LANCZOS, box=(*corner, *(corner + window)))
    return np.asarray(laid)[None]


def _stroke_widths(signs: Pixels) -> Floats:
    """How wide the strokes of ``signs`` [N, H, W] are, pixels [N]: a stroke has twice its area, by its perimeter."""
    pixels = np.pad(signs.astype(np.float32), ((0, 0), (1, 1), (1, 1)))
    slopes = np.hypot(np.diff(pixels, axis=1)[:, :, :-1], np.diff(pixels, axis=2)[:, :-1])
    widths: Floats = 2 * pixels.sum((1, 2), np.float64) / np.maximum(slopes.sum((1, 2), np.float64), 1)
    return widths


def _filled(signs: Pixels) -> float:
    """The share of signs [N, H, W] that hold a square too large for a stroke, full of foreground."""
    side = max(1, round(STROKE * min(signs.shape[1:])))
    squares = sliding_window_view(np.greater_equal(signs, FULL), (side, side), axis=(1, 2))
    full: NDArray[np.bool_] = np.all(squares, axis=(-2, -1))
    return float(full.any((1, 2)).mean())


def _ends(foreground: NDArray[np.bool_], across: int) -> tuple[Floats, Floats]:
    """Where the foreground of each image [N, H, W] begins and ends, with ``across`` reduced, as shares of the side."""
    lines: NDArray[np.bool_] = np.any(foreground, axis=across)
    return lines.argmax(1) / lines.shape[1], 1 - lines[:, ::-1].argmax(1) / lines.shape[1]


def _center_of_mass(sums: NDArray[np.integer]) -> Floats:
    """The center of mass along lines whose pixels sum to ``sums`` [..., L], as a share of L."""
    length = sums.shape[-1]
    center: Floats = sums @ (np.arange(length) + 0.5) / sums.sum(-1) / length
    return center
