"""The quality report of a dataset: its contents, broken and duplicate images, and samples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darkroom.data.cache import SPLITS
from darkroom.datasets.duplicates import find_duplicates
from darkroom.datasets.scan import Scan
from darkroom.datasets.source import DecodedDataset
from darkroom.plotting import BLUE, GRAY, ORANGE, new_figure, shorten, show_image, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLES = 10
MAX_LISTED = 200
MAX_EXAMPLES = 20
MAX_CLASSES_DRAWN = 40


def describe(decoded: DecodedDataset, rows: dict[str, NDArray[np.int64]], seen: Scan) -> dict[str, Any]:
    """The content of report.json; ``seen`` is the result of a scan of ``rows``.

    Long lists are cut at 200 entries; the counts are of all entries.
    """
    counts = {split: np.bincount(decoded.labels[rows[split]], minlength=len(decoded.classes)) for split in SPLITS}
    broken = [{"file": name, "reason": reason} for name, reason in sorted(decoded.broken.items())]
    return {
        "images": {split: len(rows[split]) for split in SPLITS},
        "classes": {
            name: {split: int(counts[split][label]) for split in SPLITS} for label, name in enumerate(decoded.classes)
        },
        "original_sizes": dict(list(decoded.sizes.items())[:MAX_LISTED]),
        "different_sizes": len(decoded.sizes),
        "broken_count": len(broken),
        "broken": broken[:MAX_LISTED],
        "left_out": decoded.left_out,
        "duplicates": _describe_duplicates(decoded, list(rows), seen),
        "decoder": decoded.decoder.as_json() if decoded.decoder else {},
        "notes": list(decoded.notes),
    }


def _describe_duplicates(decoded: DecodedDataset, splits: Sequence[str], seen: Scan) -> dict[str, Any]:
    found = find_duplicates(seen)
    crossing = _differ(found.splits, found.starts)
    ends = np.append(found.starts[1:], len(found.rows))
    shown = np.append(np.flatnonzero(crossing), np.flatnonzero(~crossing))[:MAX_EXAMPLES]
    spans = [
        slice(start, min(start + MAX_LISTED, end)) for start, end in zip(found.starts[shown], ends[shown], strict=True)
    ]
    examples = [
        [
            {
                "split": splits[split],
                "label": decoded.classes[decoded.labels[row]],
                "image": decoded.names[row] if decoded.names else row,
            }
            for row, split in zip(found.rows[span].tolist(), found.splits[span].tolist(), strict=True)
        ]
        for span in spans
    ]
    return {
        "groups": len(found.starts),
        "surplus_images": len(found.rows) - len(found.starts),
        "groups_across_splits": int(crossing.sum()),
        "groups_with_different_labels": int(_differ(decoded.labels[found.rows], found.starts).sum()),
        "examples": examples,
    }


def _differ(values: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the values of each group, which begins at ``starts``, are not all the same."""
    differ: NDArray[np.bool_] = np.minimum.reduceat(values, starts) != np.maximum.reduceat(values, starts)
    return differ


def class_balance(counts: dict[str, dict[str, int]]) -> "Figure":
    """Images of each class, stacked by split."""
    names = list(counts)
    figure = new_figure(8, float(np.clip(1.4 + 0.3 * len(names), 2.5, 18)))
    axes = figure.subplots()
    left = np.zeros(len(names))
    for split, color in zip(SPLITS, (BLUE, ORANGE, GRAY), strict=True):
        values = np.array([counts[name][split] for name in names])
        # By position: names that are alike once shortened would share a bar.
        axes.barh(range(len(names)), values, left=left, color=color, label=split, height=0.75)
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
