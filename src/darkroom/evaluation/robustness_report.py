"""The files about a model's robustness: its result as JSON, as a table, and as a plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from darkroom import plotting
from darkroom.evaluation.corruptions import CORRUPTIONS, draw
from darkroom.evaluation.robustness import HEADER, ROBUSTNESS, CorruptionAccuracy, Robustness
from darkroom.plotting import BLUE, GRAY, new_figure, show_image, tidy
from darkroom.utils.csv_files import write_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def write_robustness(found: Robustness, image: NDArray[np.uint8], directory: Path) -> None:
    """Write robustness.json, robustness.csv and robustness.png; ``image`` uint8 [C, H, W] is the example."""
    found.write(directory / ROBUSTNESS)
    write_csv(directory / "robustness.csv", HEADER, found.rows())
    plotting.save(robustness_plot(found, image), directory / "robustness.png")


def robustness_plot(found: Robustness, image: NDArray[np.uint8]) -> "Figure":
    """A row for each corruption: ``image`` uint8 [C, H, W] in every strength, and the accuracy with its 95 % interval
    beside that on the images as they are."""
    rows = len(found.corruptions)
    figure = new_figure(12, 1.0 + 1.6 * rows)
    figure.suptitle(
        f"Accuracy on corrupted images {found.corrupted.accuracy:.1%} "
        f"({found.corrupted.accuracy_low:.1%} to {found.corrupted.accuracy_high:.1%}), "
        f"as they are {found.clean.accuracy:.1%}; lowest with {found.worst.corruption}",
        x=0.01,
        ha="left",
        fontsize=12,
        fontweight="bold",
    )
    images = torch.from_numpy(image[None].copy())
    draws = draw(images)
    for (left, right), each in zip(figure.subplots(rows, 2, width_ratios=(3, 2)), found.corruptions, strict=True):
        change = CORRUPTIONS[each.corruption].change
        _show_strip(left, [change(images, parameter, draws)[0].numpy() for parameter in each.parameters])
        left.set_xticks(left.get_xticks(), [f"{parameter:.3g}" for parameter in each.parameters], fontsize=8)
        left.set_title(f"{each.corruption} ({each.unit})", loc="left", fontsize=9)
        _draw_accuracies(right, each, found.clean.accuracy)
    return figure


def _show_strip(axes: "Axes", images: Sequence[NDArray[np.uint8]]) -> None:
    """Images of one size beside each other, in one picture: as many axes would take seconds to lay out. A tick marks
    the middle of each."""
    channels, height, width = images[0].shape
    gap = np.full((channels, height, -(-width // 16)), 255, np.uint8)
    show_image(axes, np.concatenate([part for image in images for part in (image, gap)][:-1], axis=2))
    axes.set_xticks([width / 2 - 0.5 + number * (width + gap.shape[2]) for number in range(len(images))])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_accuracies(axes: "Axes", found: CorruptionAccuracy, clean: float) -> None:
    values = np.array([(one.accuracy, one.accuracy_low, one.accuracy_high) for one in found.strengths]).T
    # Rounding can put the value beyond its interval, which matplotlib refuses.
    ends = np.maximum([values[0] - values[1], values[2] - values[0]], 0)
    places = np.arange(1, len(found.strengths) + 1)
    style: dict[str, Any] = {"marker": "o", "color": BLUE, "markersize": 3, "elinewidth": 1.2, "capsize": 2}
    axes.errorbar(places, values[0], yerr=ends, **style)
    axes.axhline(clean, color=GRAY, linewidth=1, linestyle="--")
    tidy(axes, "")
    axes.set_title(f"accuracy {found.overall.accuracy:.1%}", loc="left", fontsize=9)
    axes.set_ylim(0, 1.05)
    axes.set_xticks(places, [f"{parameter:.3g}" for parameter in found.parameters])
    axes.tick_params(labelsize=8)
