"""Figures of heat maps for an evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from darkroom import plotting
from darkroom.data.batches import Pixels
from darkroom.errors import counted
from darkroom.evaluation.metrics import Evaluation, Ints
from darkroom.explanation.explainer import Explainer
from darkroom.explanation.picture import tinted
from darkroom.plotting import GRAY, GREEN, RED, image_grid, new_figure, shorten, show_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Mistakes that are shown, and images of each class whose maps are averaged: fewer if the maps of a picture would take
# longer than SECONDS.
MISTAKES = 12
CLASS_IMAGES = 16
SECONDS = 20.0
MAX_CLASSES = 50


def write_heat_maps(
    images: Pixels, found: Evaluation, classes: Sequence[str], explainer: Explainer, directory: Path
) -> None:
    """Write explained_mistakes.png and class_maps.png, as far as there is something to explain, and time.

    Raises ModelError if a heat map would take too long.
    """
    for name, draw in (("explained_mistakes", explained_mistakes), ("class_maps", class_maps)):
        if figure := draw(images, found, classes, explainer):
            plotting.save(figure, directory / f"{name}.png")


def explained_mistakes(
    images: Pixels, found: Evaluation, classes: Sequence[str], explainer: Explainer
) -> "Figure | None":
    """The most confident mistakes among the test ``images``, each with its heat maps for the two classes.

    None if there are no mistakes, or no time for one. Raises ModelError if a heat map would take too long, as
    ``class_maps`` does.
    """
    rows = found.mistakes[: min(MISTAKES, int(SECONDS / (2 * explainer.plan.seconds)))]
    if not len(rows):
        return None
    pixels = images[rows]
    predicted, actual = (explainer.explain(pixels, of[rows]) for of in (found.predicted, found.labels))
    lines = -(-len(rows) // 2)
    figure = new_figure(10, 0.8 + 1.85 * lines)
    figure.suptitle("What spoke for the wrong class, and what for the true one", x=0.01, ha="left", fontweight="bold")
    cells = np.reshape(figure.subplots(lines, 6), (-1, 3))
    for axes in cells.ravel():
        axes.set_axis_off()
    for number, (row, three) in enumerate(zip(rows, cells, strict=False)):
        label, guess = (shorten(classes[of[row]]) for of in (found.labels, found.predicted))
        pictures = (pixels[number], *(tinted(pixels[number], heat[number]) for heat in (predicted, actual)))
        titles = (f"{found.confidence[row]:.0%} sure", f"predicted {guess}", f"true {label}")
        for axes, picture, title, color in zip(three, pictures, titles, (GRAY, RED, GREEN), strict=True):
            axes.set_axis_on()
            show_image(axes, picture)
            axes.set_title(title, fontsize=8.5, color=color)
    return figure


def class_maps(images: Pixels, found: Evaluation, classes: Sequence[str], explainer: Explainer) -> "Figure | None":
    """The mean of some test ``images`` of each class, of those predicted right, tinted by the mean of their heat maps.

    Of many classes, those with the lowest F1. None if there is no time for a single image of each.
    """
    weakest = sorted(range(len(classes)), key=lambda label: found.per_class[classes[label]]["f1"] or 0.0)
    some = {label: _some(found, label) for label in weakest}
    shown = [label for label in weakest if len(some[label])][:MAX_CLASSES]
    count = min(CLASS_IMAGES, int(SECONDS / explainer.plan.seconds / max(1, len(shown))))
    if not (shown and count):
        return None
    means = []
    for label in shown:
        pixels = images[some[label][:count]]
        heat = explainer.explain(pixels, np.full(len(pixels), label)).mean(0)
        means.append(tinted(pixels.mean(0).astype(np.uint8), heat / max(heat.max(), 1e-6)))
    names = [shorten(classes[label]) for label in shown]
    those = "each class" if len(shown) == len(classes) else f"{len(shown)} of {len(classes)} classes"
    heading = f"Where the model looks: means of up to {counted(count, 'image')} of {those}, the weakest first"
    return image_grid(np.stack(means), names, [GRAY] * len(names), heading)


def _some(found: Evaluation, label: int) -> Ints:
    """Some test images of a class that are predicted right, from all over the split: the same for the same model."""
    right = np.flatnonzero((found.labels == label) & (found.predicted == label))
    chosen: Ints = np.random.default_rng(0).permutation(right)[:CLASS_IMAGES]
    return chosen
