"""Plots of an evaluation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darkroom.data.batches import Pixels
from darkroom.errors import counted
from darkroom.evaluation.metrics import Evaluation, Ints
from darkroom.evaluation.slices import Slice
from darkroom.plotting import BLUE, GRAY, GREEN, RED, image_grid, new_figure, shorten, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DARK = "#111827"
# Above this many classes numbers in the cells would be too small to read.
MAX_ANNOTATED = 25
GRID = 25
MAX_SLICES = 30


def confusion_matrix(confusion: Ints, classes: Sequence[str], title: str) -> "Figure":
    """Counts by true class (rows) and predicted class (columns), colored by their share of the row."""
    figure, axes = class_table(classes, title)
    totals = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    shares = confusion / totals
    from matplotlib.colors import PowerNorm

    # The square root makes the few mistakes of a good model visible.
    square_root = PowerNorm(0.5, vmin=0, vmax=1)
    drawn = axes.imshow(shares, cmap="Blues", norm=square_root, interpolation="nearest")
    ticks = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.045, pad=0.02, label="share of the true class", ticks=ticks)
    bar.ax.set_yticklabels([f"{tick:.0%}" for tick in ticks])
    write_counts(axes, confusion, np.where(shares > 0.25, "white", DARK), "{:,}")
    return figure


def class_table(classes: Sequence[str], title: str) -> "tuple[Figure, Axes]":
    """A figure for a matrix with true classes as rows and predicted classes as columns, named on both sides."""
    count = len(classes)
    side = float(np.clip(2.2 + 0.62 * count, 5.0, 16.0))
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    font = _font(count)
    names = [shorten(name) for name in classes]
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(count), names, fontsize=font, **(slanted if count <= 12 else {"rotation": 90}))
    axes.set_yticks(range(count), names, fontsize=font)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    return figure, axes


def write_counts(axes: "Axes", counts: Ints, colors: NDArray[np.str_], form: str) -> None:
    """Write each count [classes, classes] that is not 0 in its cell, unless there are too many classes to read it."""
    if len(counts) > MAX_ANNOTATED:
        return
    centered: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": _font(len(counts))}
    for row, column in np.argwhere(counts):
        text = form.format(counts[row, column])
        axes.text(column, row, text, color=colors[row, column], **centered)


def _font(classes: int) -> float:
    return float(np.clip(200 / classes, 5, 10))


def prediction_grid(images: Pixels, found: Evaluation, classes: Sequence[str], seed: int = 0) -> "Figure":
    """25 random images with true and predicted label, green where right and red where wrong."""
    count = min(GRID, len(found.labels))
    rows = np.sort(np.random.default_rng(seed).choice(len(found.labels), count, replace=False))
    right = found.predicted[rows] == found.labels[rows]
    colors = np.where(right, GREEN, RED).tolist()
    return image_grid(images[rows], _titles(found, classes, rows), colors, "Random test images: green right, red wrong")


def worst_mistakes(images: Pixels, found: Evaluation, classes: Sequence[str]) -> "Figure":
    """Up to 25 wrong predictions, the most confident first."""
    rows = found.mistakes[:GRID]
    wrong, whole = len(found.mistakes), counted(len(found.labels), "test image")
    heading = f"The most confident mistakes ({wrong:,} of {whole} {'is' if wrong == 1 else 'are'} wrong)"
    return image_grid(images[rows], _titles(found, classes, rows), [RED] * len(rows), heading)


def _titles(found: Evaluation, classes: Sequence[str], rows: Ints) -> list[str]:
    return [
        f"true {shorten(classes[label])}\npredicted {shorten(classes[guess], 12)} {confidence:.0%}"
        for label, guess, confidence in zip(
            found.labels[rows], found.predicted[rows], found.confidence[rows], strict=True
        )
    ]


def class_scores(per_class: dict[str, dict[str, float | None]]) -> "Figure":
    """F1 of each class that has test images, with its 95 % interval, the weakest at the top."""
    scores = {name: (row["f1"], row["f1_low"], row["f1_high"]) for name, row in per_class.items() if row["support"]}
    ordered = sorted(scores, key=lambda name: scores[name][0] or 0.0, reverse=True)
    values, low, high = np.array([scores[name] for name in ordered], np.float64).reshape(-1, 3).T
    figure = new_figure(8, float(np.clip(1.2 + 0.28 * len(ordered), 2.5, 18)))
    axes = figure.subplots()
    font = float(np.clip(500 / len(ordered), 5, 9))
    # Rounding can put the value beyond its interval, which matplotlib refuses.
    distances = np.maximum([values - low, high - values], 0)
    ends: dict[str, Any] = {"ecolor": DARK, "elinewidth": 1, "capsize": font / 4}
    # By position: names that are alike once shortened would share a bar.
    bars = axes.barh(range(len(ordered)), values, color=BLUE, alpha=0.6, xerr=distances, error_kw=ends)
    axes.bar_label(bars, fmt="{:.3f}", padding=3, fontsize=font)
    axes.set_yticks(range(len(ordered)), [shorten(name, 28) for name in ordered])
    absent = len(per_class) - len(ordered)
    title = "F1 of each class, with its 95 % interval" + (f" ({absent} without test images)" if absent else "")
    tidy(axes, title, "F1")
    axes.set_xlim(0, 1.08)
    axes.margins(y=0.01)
    axes.tick_params(axis="y", labelsize=font, length=0)
    return figure


def slice_accuracies(found: Sequence[Slice], accuracy: float) -> "Figure":
    """The accuracy of each slice with its 95 % interval, the worst at the top, beside that of all images.

    Of many slices, only the worst are drawn.
    """
    shown = list(found[:MAX_SLICES])
    figure = new_figure(9, float(np.clip(1.4 + 0.28 * len(shown), 2.5, 18)))
    axes = figure.subplots()
    for row, each in enumerate(shown):
        color = RED if each.is_named else BLUE
        # Rounding can put the value beyond its interval, which matplotlib refuses.
        ends = np.maximum([[each.accuracy - each.accuracy_low], [each.accuracy_high - each.accuracy]], 0)
        axes.errorbar(each.accuracy, row, xerr=ends, fmt="o", color=color, markersize=4, elinewidth=1.2, capsize=2)
    axes.axvline(accuracy, color=GRAY, linewidth=1, linestyle="--")
    axes.set_yticks(
        range(len(shown)),
        [f"{shorten(each.attribute)}: {shorten(each.value, 28)} ({each.images:,})" for each in shown],
        fontsize=8,
    )
    axes.set_ylim(len(shown) - 0.5, -0.5)
    those = f"{len(shown)} worst of {len(found):,} slices" if len(shown) < len(found) else counted(len(found), "slice")
    legend = f"accuracy; dashed: of all images, {accuracy:.1%}; red: lower than chance explains"
    tidy(axes, f"Accuracy of the {those}, with 95 % intervals", legend)
    axes.set_xlim(max(0.0, min(each.accuracy_low for each in shown) - 0.02), 1.01)
    return figure
