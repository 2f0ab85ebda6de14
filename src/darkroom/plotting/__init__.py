"""The common style of all figures.

matplotlib takes half a second to import: it is imported when a figure is created, so that code that may not draw
starts without it.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import bidirectional, category, east_asian_width

import numpy as np
from numpy.typing import NDArray

from darkroom.plotting.fonts import glyphs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE = "#1f5fa8"
ORANGE = "#e07b27"
GREEN = "#1a7f37"
RED = "#c62828"
GRAY = "#6b7280"
DPI = 130
# Of zlib, for PNG: less than half the time of its own default, for files that are 6 % larger.
COMPRESSION = 3
MAX_NAME = 18
# Without width: what follows a Hebrew or Arabic name, such as its probability, stays to the right of it.
LEFT_TO_RIGHT = "\u200e"


def new_figure(width: float, height: float) -> "Figure":
    """A figure of the given size in inches, drawn without a screen and without pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: "Figure", path: Path) -> None:
    """Save a figure as a PNG file, with names in every script that this machine has fonts for."""
    with glyphs(figure):
        figure.savefig(
            path,
            dpi=DPI,
            bbox_inches="tight",
            pad_inches=0.1,
            metadata={"Software": None},
            pil_kwargs={"compress_level": COMPRESSION},
        )


def tidy(axes: "Axes", title: str, x: str = "", y: str = "") -> None:
    """A title to the left, labels, a faint grid, no box."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def count_along_x(axes: "Axes") -> None:
    """Put ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def show_image(axes: "Axes", image: NDArray[np.uint8]) -> None:
    """One uint8 image [C, H, W], its pixels as they are."""
    picture: Any = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    axes.imshow(picture, cmap="gray" if len(image) == 1 else None, vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def shorten(name: str, longest: int = MAX_NAME) -> str:
    """A class name that fits under a picture, on one line; $ is escaped, which starts a formula in matplotlib."""
    # Control characters have no glyphs, and the halves of surrogates are what a name holds that is not UTF-8.
    line = "".join("\ufffd" if category(sign) in ("Cc", "Cs") else sign for sign in " ".join(name.split()))
    # Chinese, Japanese and Korean characters are twice as wide as others.
    ends = list(accumulate(2 if east_asian_width(sign) in "WF" else 1 for sign in line))
    short = line if not ends or ends[-1] <= longest else line[: bisect_right(ends, longest - 1)] + "…"
    if any(bidirectional(sign) in ("R", "AL") for sign in short):
        short += LEFT_TO_RIGHT
    return short.replace("$", r"\$")


def image_grid(images: NDArray[np.uint8], titles: Sequence[str], colors: Sequence[str], heading: str) -> "Figure":
    """Images uint8 [N, C, H, W], five a row, each under its title in its color."""
    rows = max(1, -(-len(images) // 5))
    # A strip or a column is drawn smaller, in a cell that is neither.
    ratio = min(max(images.shape[2] / images.shape[3], 0.3), 1.5)
    lines = max((title.count("\n") + 1 for title in titles), default=1)
    # A picture is 1.81 inches wide, a line of a title 0.14 high.
    figure = new_figure(9.5, 0.38 + rows * (1.81 * ratio + 0.14 * lines + 0.12))
    figure.suptitle(heading, x=0.01, ha="left", fontsize=12, fontweight="bold")
    cells = np.atleast_1d(figure.subplots(rows, 5)).ravel()
    for axes in cells:
        axes.set_axis_off()
    for axes, image, title, color in zip(cells, images, titles, colors, strict=False):
        axes.set_axis_on()
        show_image(axes, image)
        axes.set_title(title, fontsize=8.5, color=color)
        for spine in axes.spines.values():
            spine.set(edgecolor=color, linewidth=2)
    return figure
