"""Pictures of a comparison."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from darkroom.data.batches import Pixels
from darkroom.evaluation.comparison import Comparison
from darkroom.evaluation.metrics import Floats, Ints
from darkroom.evaluation.plots import DARK, GRID, class_table, write_counts
from darkroom.plotting import GRAY, GREEN, RED, image_grid, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion_difference(found: Comparison, names: Sequence[str]) -> "Figure":
    """How many images of each true class (rows) go to each predicted class (columns) more or fewer than before.

    Blue is better, more right answers or fewer of a mistake, and red is worse; colored by their share of the row.
    """
    before, after = found.confusions
    change = after - before
    shares = change / np.maximum(found.class_sizes, 1)[:, None]
    # A mistake that is made more often is worse.
    better = np.where(np.eye(len(shares), dtype=bool), shares, -shares)
    figure, axes = class_table(found.a.classes, f"Confusion matrix: {names[1]} less {names[0]}")
    from matplotlib.colors import FuncNorm

    # The square root makes small changes visible.
    limit = max(float(np.abs(better).max()), 0.01)
    roots = FuncNorm((_signed_root, _signed_square), vmin=-limit, vmax=limit)
    drawn = axes.imshow(better, cmap="RdBu", norm=roots, interpolation="nearest")
    ticks = limit * np.array([-1, -0.25, 0, 0.25, 1])
    label = "share of the true class: worse (red), better (blue)"
    bar = figure.colorbar(drawn, ax=axes, fraction=0.045, pad=0.02, label=label, ticks=ticks)
    bar.ax.set_yticklabels([f"{abs(tick):.1%}" for tick in ticks])
    bar.ax.minorticks_off()
    write_counts(axes, change, np.where(np.abs(better) > 0.4 * limit, "white", DARK), "{:+,}")
    return figure


def _signed_root(values: Floats) -> Floats:
    roots: Floats = np.sign(values) * np.sqrt(np.abs(values))
    return roots


def _signed_square(values: Floats) -> Floats:
    squares: Floats = np.sign(values) * np.square(values)
    return squares


def disagreements(
    images: Pixels, found: Comparison, names: Sequence[str], seed: int = 0, places: Ints | None = None
) -> "Figure":
    """Up to 25 random images with different answers: green where the second model alone is right, red the first.

    ``places`` are those of the compared images among ``images``, if not all of these were compared.
    """
    rows = found.disagreements
    chosen = np.sort(np.random.default_rng(seed).choice(rows, min(GRID, len(rows)), replace=False))
    colors = np.select([found.only_b[chosen], found.only_a[chosen]], [GREEN, RED], GRAY).tolist()
    titles = []
    for row in chosen:
        said = [
            f"{name}: {shorten(found.a.classes[each.predicted[row]], 12)} {each.confidence[row]:.0%}"
            for name, each in zip(names, (found.a, found.b), strict=True)
        ]
        titles.append("\n".join([f"true {shorten(found.a.classes[found.a.labels[row]])}", *said]))
    which = f"{len(chosen)} of the {len(rows):,} test images" if len(rows) else "There is no test image"
    heading = f"{which} on which they disagree\ngreen: only {names[1]} is right, red: only {names[0]}, gray: neither"
    shown = chosen if places is None else places[chosen]
    return image_grid(images[shown], titles, colors, heading)
