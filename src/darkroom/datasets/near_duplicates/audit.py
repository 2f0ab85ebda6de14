"""Decide whether to look for near-duplicates, and describe what was found."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from darkroom.config import Config
from darkroom.data.cache import SPLITS
from darkroom.datasets.near_duplicates.groups import SamePictures, twin_of
from darkroom.datasets.near_duplicates.search import Pairs, find_pairs
from darkroom.datasets.scan import Scan
from darkroom.datasets.source import DecodedDataset, ReportProgress
from darkroom.errors import counted
from darkroom.plotting import RED, new_figure, shorten, show_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Smaller images have no details by which a shifted copy could be told from another picture.
SMALLEST_SIDE = 16
# More images take longer to compare than a tenth of a short training; `full` compares them all the same.
MOST_COMPARED = 100_000
GROUPS_DRAWN = 12
IMAGES_DRAWN = 6
MAX_LISTED = 200
NONE = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True)
class Audit:
    """The near-duplicates among the images of a scan; ``skipped`` says why they were not looked for, or is empty."""

    seen: Scan
    pairs: Pairs
    same: SamePictures
    skipped: str = ""

    def groups_with(self, groups: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """A number for each image of the scan, int64 [N], that is the same for copies, near-duplicates and ``groups``.

        ``groups`` number the groups of all decoded images, where a table names any.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        count = len(self.seen.rows)
        images = np.arange(count)
        first, second = [images, self.pairs.first], [self.seen.originals, self.pairs.second]
        size = count
        if groups is not None:
            own = groups[self.seen.rows]
            first, second, size = [*first, images], [*second, count + own], count + int(own.max()) + 1
        ends = np.concatenate(first), np.concatenate(second)
        graph = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(size, size))
        found: NDArray[np.int64] = connected_components(graph, directed=False)[1][:count].astype(np.int64)
        return found

    def without_leaking(self) -> SamePictures:
        """What remains when the train images are dropped that leak."""
        return SamePictures.join(self.seen, self.pairs, ~self.same.leaking)


def compare_splits(
    images: NDArray[np.uint8], seen: Scan, config: Config, scratch: Path, report: ReportProgress
) -> Audit:
    """The near-duplicates among the scanned images [N, C, H, W], as far as the settings want them looked for."""
    extent = config.preprocess.audit
    if extent == "auto" and config.dataset.on_leak != "report":
        # Who wants leaks dropped wants them found, however many images there are.
        extent = "full"
    return find_near_duplicates(images, seen, extent, scratch, report, is_published=config.dataset.name != "folder")


def find_near_duplicates(
    images: NDArray[np.uint8],
    seen: Scan,
    extent: Literal["auto", "full", "off"],
    scratch: Path,
    report: ReportProgress,
    *,
    is_published: bool = False,
) -> Audit:
    """Compare the scanned images [N, C, H, W] of all splits, copies only once; ``scratch`` holds small versions."""
    pictures = np.flatnonzero(seen.originals == np.arange(len(seen.originals)))
    if skipped := _reason_to_skip(images, len(pictures), extent, is_published=is_published):
        return Audit(seen, NONE, SamePictures.join(seen, NONE), skipped)
    found = find_pairs(images, seen.rows[pictures], scratch, report)
    pairs = Pairs(pictures[found.first], pictures[found.second], found.scores)
    return Audit(seen, pairs, SamePictures.join(seen, pairs))


def _reason_to_skip(images: NDArray[np.uint8], pictures: int, extent: str, *, is_published: bool) -> str:
    if extent == "off":
        return "preprocess.audit is off"
    if min(images.shape[2:]) < SMALLEST_SIDE:
        return f"the images are smaller than {SMALLEST_SIDE} pixels"
    if extent == "auto" and is_published:
        # Known to everyone, the same for everyone, and often preprocessed for a training of less than a minute.
        return "the dataset is a published one; preprocess.audit: full compares its images"
    if extent == "auto" and pictures > MOST_COMPARED:
        return f"there are more than {MOST_COMPARED:,} images; preprocess.audit: full compares them"
    return ""


def describe(audit: Audit, decoded: DecodedDataset) -> dict[str, Any]:
    """What report.json says about near-duplicates. ``leaked`` counts copies too."""
    groups, seen = audit.same.groups, audit.seen
    return {
        "skipped": audit.skipped,
        "groups": len(groups),
        "images": sum(map(len, groups)),
        "groups_across_splits": sum(_differ(seen.splits[group]) for group in groups),
        "groups_with_different_labels": sum(_differ(decoded.labels[seen.rows[group]]) for group in groups),
        "leaked": {
            split: int((audit.same.leaked & (seen.splits == number)).sum())
            for number, split in enumerate(SPLITS)
            if split != "train"
        },
        "leaking": int(audit.same.leaking.sum()),
    }


def list_groups(audit: Audit, decoded: DecodedDataset, kept: NDArray[np.bool_]) -> list[list[dict[str, Any]]]:
    """The content of near_duplicates.json: the images of each group, what matters most first.

    ``kept`` bool [N] says which images of the scan are in the cache: they have a row there.
    """
    sizes = [int((kept & (audit.seen.splits == number)).sum()) for number in range(len(SPLITS))]
    begins = np.cumsum([0, *sizes])
    rows = np.cumsum(kept) - 1 - begins[audit.seen.splits]
    return [
        [
            {**_image(audit, decoded, position), "row": int(rows[position]) if kept[position] else None}
            for position in group.tolist()
        ]
        for group in _ordered(audit, decoded)
    ]


def name_leak(audit: Audit, decoded: DecodedDataset) -> str:
    """One line about what leaks between the splits, with a pair as an example; empty if nothing does."""
    leaked = np.flatnonzero(audit.same.leaked)
    if not len(leaked):
        return ""
    # Of test, if there is one: its accuracy is the one that counts.
    position = int(leaked[audit.seen.splits[leaked].argmax()])
    twin = twin_of(position, audit.seen, audit.pairs)
    one, other = (_named(audit, decoded, each) for each in (position, twin))
    return (
        f"{counted(len(leaked), 'image')} of val and test {'looks' if len(leaked) == 1 else 'look'} like one of an "
        f"earlier split, such as {one} and {other}"
    )


def _named(audit: Audit, decoded: DecodedDataset, position: int) -> str:
    row = int(audit.seen.rows[position])
    split = SPLITS[audit.seen.splits[position]]
    return f"{decoded.names[row]} ({split})" if decoded.names else f"image {row} ({split})"


def _image(audit: Audit, decoded: DecodedDataset, position: int) -> dict[str, Any]:
    row = int(audit.seen.rows[position])
    return {
        "split": SPLITS[audit.seen.splits[position]],
        "label": decoded.classes[decoded.labels[row]],
        "image": decoded.names[row] if decoded.names else row,
    }


def _ordered(audit: Audit, decoded: DecodedDataset) -> list[NDArray[np.int64]]:
    """The groups: those with different labels first, then those across splits."""
    rows, splits = audit.seen.rows, audit.seen.splits
    return sorted(
        audit.same.groups, key=lambda group: (not _differ(decoded.labels[rows[group]]), not _differ(splits[group]))
    )


def _differ(values: NDArray[np.int64]) -> bool:
    return bool((values != values[0]).any())


def draw(audit: Audit, decoded: DecodedDataset) -> "Figure":
    """Groups side by side, a line for each, with splits and labels; those with different labels first."""
    groups = _ordered(audit, decoded)[:GROUPS_DRAWN]
    figure = new_figure(9.5, 0.8 + 1.75 * max(1, len(groups)))
    title = f"Near-duplicates: {len(groups):,} of {counted(len(audit.same.groups), 'group')}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    cells = figure.subplots(max(1, len(groups)), IMAGES_DRAWN, squeeze=False)
    for axes in cells.ravel():
        axes.set_axis_off()
    for line, group in zip(cells, groups, strict=False):
        labels = decoded.labels[audit.seen.rows[group]]
        color = RED if _differ(labels) else "black"
        for axes, position in zip(line, _some(group, labels, audit.seen.splits[group]).tolist(), strict=False):
            image = _image(audit, decoded, position)
            axes.set_axis_on()
            show_image(axes, decoded.images[audit.seen.rows[position]])
            axes.set_title(f"{image['split']}: {shorten(image['label'])}", fontsize=8.5, color=color)
    return figure


def _some(group: NDArray[np.int64], labels: NDArray[np.int64], splits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Up to IMAGES_DRAWN images of a group, one of each split and label before others."""
    _, first = np.unique(splits * (labels.max() + 1) + labels, return_index=True)
    others = np.setdiff1d(np.arange(len(group)), first)
    chosen: NDArray[np.int64] = group[np.sort(np.concatenate([first, others])[:IMAGES_DRAWN])]
    return chosen
