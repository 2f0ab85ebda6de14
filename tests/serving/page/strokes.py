"""The digits as a hand draws them: strokes in a square of side 1, and as a picture drawn with the page's pen."""

import io
from collections.abc import Sequence
from math import cos, radians, sin

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float]
Stroke = Sequence[Point]
CANVAS = 560  # as in page/canvas.js, pixels
PEN = 0.06  # as in page/canvas.js, share of the canvas


def arc(x: float, y: float, width: float, height: float, start: float, end: float) -> list[Point]:
    """A piece of an ellipse; angles in degrees, 0 to the right, 90 down."""
    steps = max(8, round(abs(end - start) / 10))
    angles = [radians(start + (end - start) * step / steps) for step in range(steps + 1)]
    return [(x + width * cos(angle), y + height * sin(angle)) for angle in angles]


# The ways in which people write each digit.
DIGITS: dict[str, list[list[Stroke]]] = {
    "0": [
        [arc(0.5, 0.5, 0.28, 0.42, -90, 270)],
        [arc(0.5, 0.5, 0.4, 0.44, -60, 310)],
        [arc(0.5, 0.5, 0.22, 0.45, -80, 290)],
    ],
    "1": [
        [[(0.5, 0.05), (0.5, 0.95)]],
        [[(0.62, 0.05), (0.42, 0.95)]],
        [[(0.34, 0.28), (0.52, 0.06), (0.52, 0.95)]],
    ],
    "2": [
        [[*arc(0.5, 0.3, 0.27, 0.24, 190, 380), (0.22, 0.93), (0.82, 0.93)]],
        [[*arc(0.48, 0.27, 0.24, 0.22, 200, 400), (0.2, 0.9), (0.5, 0.86), (0.85, 0.92)]],
        [[(0.24, 0.2), (0.45, 0.07), (0.68, 0.16), (0.7, 0.36), (0.52, 0.62), (0.24, 0.9), (0.78, 0.9)]],
    ],
    "3": [
        [[*arc(0.46, 0.28, 0.26, 0.22, 200, 440), *arc(0.46, 0.71, 0.3, 0.23, -85, 150)]],
        [[(0.24, 0.12), (0.5, 0.06), (0.72, 0.2), (0.66, 0.4), (0.46, 0.48), (0.72, 0.58), (0.74, 0.78), (0.54, 0.93),
          (0.24, 0.88)]],
        [[*arc(0.44, 0.28, 0.3, 0.23, 210, 430), (0.42, 0.5), *arc(0.42, 0.71, 0.32, 0.24, -70, 140)]],
    ],
    "4": [
        [[(0.6, 0.05), (0.18, 0.62), (0.86, 0.62)], [(0.64, 0.32), (0.64, 0.96)]],
        [[(0.28, 0.08), (0.22, 0.52), (0.78, 0.5)], [(0.72, 0.08), (0.7, 0.95)]],
        [[(0.34, 0.06), (0.24, 0.5), (0.74, 0.48)], [(0.7, 0.14), (0.6, 0.96)]],
    ],
    "5": [
        [[(0.34, 0.07), (0.3, 0.45), *arc(0.46, 0.66, 0.3, 0.26, -110, 140)], [(0.34, 0.07), (0.78, 0.07)]],
        [[(0.76, 0.08), (0.36, 0.08), (0.32, 0.44), (0.54, 0.4), (0.74, 0.54), (0.74, 0.76), (0.54, 0.92),
          (0.26, 0.86)]],
        [[(0.74, 0.05), (0.4, 0.08), (0.32, 0.46), *arc(0.47, 0.68, 0.27, 0.25, -100, 150)]],
    ],
    "6": [
        [[(0.64, 0.06), (0.42, 0.24), (0.28, 0.52), *arc(0.49, 0.7, 0.22, 0.23, 190, -190)]],
        [[(0.56, 0.05), (0.34, 0.36), (0.26, 0.7), (0.38, 0.92), (0.62, 0.92), (0.72, 0.72), (0.58, 0.54),
          (0.38, 0.58), (0.28, 0.72)]],
        [[*arc(0.62, 0.5, 0.36, 0.46, 270, 150), *arc(0.5, 0.71, 0.24, 0.22, 180, -170)]],
    ],
    "7": [
        [[(0.2, 0.08), (0.8, 0.08), (0.42, 0.95)]],
        [[(0.18, 0.14), (0.48, 0.1), (0.78, 0.12), (0.62, 0.45), (0.5, 0.95)]],
        [[(0.2, 0.1), (0.76, 0.08), (0.6, 0.42), (0.44, 0.94)], [(0.38, 0.52), (0.74, 0.5)]],
    ],
    "8": [
        [arc(0.5, 0.28, 0.22, 0.21, 90, 450), arc(0.5, 0.72, 0.26, 0.23, -90, 270)],
        [[(0.7, 0.18), (0.5, 0.06), (0.3, 0.18), (0.34, 0.36), (0.64, 0.58), (0.72, 0.78), (0.5, 0.94), (0.28, 0.78),
          (0.36, 0.58), (0.66, 0.36), (0.7, 0.18)]],
        [arc(0.5, 0.27, 0.24, 0.2, 100, 470), arc(0.49, 0.71, 0.24, 0.23, -100, 265)],
    ],
    "9": [
        [[*arc(0.5, 0.3, 0.24, 0.23, 0, -360), (0.72, 0.6), (0.66, 0.95)]],
        [[(0.7, 0.2), (0.5, 0.06), (0.3, 0.2), (0.32, 0.4), (0.54, 0.46), (0.7, 0.3), (0.72, 0.16), (0.66, 0.6),
          (0.6, 0.95)]],
        [[*arc(0.48, 0.3, 0.23, 0.22, -10, -350), (0.7, 0.14), (0.7, 0.94)]],
    ],
}  # fmt: skip


def draw(
    strokes: Sequence[Stroke],
    *,
    scale: float = 0.7,
    corner: Point = (0.15, 0.15),
    pen: float = PEN,
    canvas: int = CANVAS,
    slant: float = 0.0,
    negative: bool = False,
) -> bytes:
    """A PNG of black strokes on white, the square of side 1 scaled to ``scale`` of the canvas and put to ``corner``.

    As a ``negative`` it is white on black.
    """
    picture = Image.new("L", (canvas, canvas), 255)
    draw = ImageDraw.Draw(picture)
    radius = pen * canvas / 2
    for stroke in strokes:
        points = [
            ((corner[0] + scale * (x + slant * (0.5 - y))) * canvas, (corner[1] + scale * y) * canvas)
            for x, y in stroke
        ]
        draw.line(points, fill=0, width=round(2 * radius), joint="curve")
        for x, y in (points[0], points[-1]):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=0)
    pixels = np.asarray(picture)
    return png(255 - pixels if negative else pixels)


def png(pixels: np.ndarray) -> bytes:
    """uint8 [h, w] or [h, w, 3] as a PNG."""
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()
