"""The quality of a dataset: what is in it, what is broken, what occurs twice, how it looks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darkroom.data.cache import SPLITS
from darkroom.data.duplicates import find_duplicates
from darkroom.data.source import Decoded
from darkroom.drawing import BLUE, GREY, ORANGE, new_figure, shorten, show_image, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLES = 10
MAX_LISTED = 200
MAX_CLASSES_DRAWN = 40


def describe(decoded: Decoded, rows: dict[str, NDArray[np.int64]]) -> dict[str, Any]:
    """The figures of report.json. Long lists are cut at 200 entries; the counts beside them are whole."""
    groups = find_duplicates(decoded.images, rows)
    crossing = [group for group in groups if len(group) > 1]
    broken = [{"file": name, "reason": reason} for name, reason in sorted(decoded.broken.items())]
    return {
        "images": {split: len(rows[split]) for split in SPLITS},
        "classes": {name: _counts(decoded, rows, label) for label, name in enumerate(decoded.classes)},
        "original_sizes": dict(list(decoded.sizes.items())[:MAX_LISTED]),
        "different_sizes": len(decoded.sizes),
        "broken_count": len(broken),
        "broken": broken[:MAX_LISTED],
        "duplicates": {
            "groups": len(groups),
            "surplus_images": sum(sum(map(len, group.values())) - 1 for group in groups),
            "groups_across_splits": len(crossing),
            "groups_with_different_labels": sum(len(_labels(decoded, group)) > 1 for group in groups),
            "examples": [_named(decoded, group) for group in (crossing + [g for g in groups if len(g) == 1])[:20]],
        },
    }


def _counts(decoded: Decoded, rows: dict[str, NDArray[np.int64]], label: int) -> dict[str, int]:
    return {split: int((decoded.labels[rows[split]] == label).sum()) for split in SPLITS}


def _labels(decoded: Decoded, group: dict[str, list[int]]) -> set[int]:
    return {int(decoded.labels[row]) for members in group.values() for row in members}


def _named(decoded: Decoded, group: dict[str, list[int]]) -> list[dict[str, Any]]:
    return [
        {
            "split": split,
            "label": decoded.classes[decoded.labels[row]],
            "image": decoded.names[row] if decoded.names else row,
        }
        for split, members in group.items()
        for row in members
    ]


def class_balance(counts: dict[str, dict[str, int]]) -> "Figure":
    """Images of each class, stacked by split."""
    names = list(counts)
    figure = new_figure(8, float(np.clip(1.4 + 0.3 * len(names), 2.5, 18)))
    axes = figure.subplots()
    left = np.zeros(len(names))
    for split, colour in zip(SPLITS, (BLUE, ORANGE, GREY), strict=True):
        values = np.array([counts[name][split] for name in names])
        # By position: names that are alike once shortened would share a bar.
        axes.barh(range(len(names)), values, left=left, color=colour, label=split, height=0.75)
        left += values
    axes.set_yticks(range(len(names)), [shorten(name, 28) for name in names])
    tidy(axes, "Images of each class", "images")
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.tick_params(axis="y", labelsize=float(np.clip(500 / len(names), 5, 9)), length=0)
    axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def samples(
    images: NDArray[np.uint8], labels: NDArray[np.int64], rows: NDArray[np.int64], classes: Sequence[str], seed: int
) -> "Figure":
    """A row of random train images for each class (the first 40 classes)."""
    drawn = classes[:MAX_CLASSES_DRAWN]
    figure = new_figure(9.5, 0.6 + 0.85 * len(drawn))
    figure.suptitle("Samples of each class (train split)", x=0.01, ha="left", fontsize=12, fontweight="bold")
    generator = np.random.default_rng(seed)
    for label, axes in enumerate(np.atleast_1d(figure.subplots(len(drawn), 1))):
        members = rows[labels[rows] == label]
        chosen = generator.choice(members, min(SAMPLES, len(members)), replace=False)
        show_image(axes, _side_by_side(images[chosen]))
        axes.spines[:].set_visible(False)
        axes.set_anchor("W")
        axes.set_ylabel(shorten(drawn[label]), rotation=0, ha="right", va="center", fontsize=9)
    return figure


def _side_by_side(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Up to SAMPLES images [N, C, H, W] as one [C, H, width of SAMPLES of them], with white between."""
    _, channels, height, width = images.shape
    gap = max(1, width // 10)
    strip = np.full((channels, height, SAMPLES * (width + gap) - gap), 255, dtype=np.uint8)
    for position, image in enumerate(images):
        left = position * (width + gap)
        strip[:, :, left : left + width] = image
    return strip
