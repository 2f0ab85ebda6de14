"""What models learn from with and without the fixes, and the test images on which both can be compared."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.config import Config
from darkroom.data.cache import SPLITS
from darkroom.datasets.fixes import Fix, apply_fixes
from darkroom.datasets.near_duplicates.audit import compare_splits
from darkroom.datasets.scan import scan
from darkroom.datasets.source import DecodedDataset
from darkroom.datasets.splits import assign_rows
from darkroom.errors import DataError

# Train and val: nothing is chosen by val here.
LEARNED = SPLITS[:2]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Arm:
    """What the models with or without the fixes learn from: ``rows`` of the decoded images, and their labels.

    ``known`` are the rows of the test images whose picture is among these, as a copy or a near-duplicate.
    """

    name: str
    rows: Ints
    labels: Ints
    known: Ints


@dataclass(frozen=True)
class Arms:
    """Both arms, and the rows of the ``test`` images that they are compared on.

    No fix changes these, and neither arm has learned their pictures: a model knows such an image by heart, so that a
    fix that drops or relabels its copy in train would look harmful. ``left_out`` counts those that are only left out
    for this reason.
    """

    both: tuple[Arm, Arm]
    test: Ints
    left_out: int


def make_arms(
    fixes: list[Fix], decoded: DecodedDataset, config: Config, scratch: Path, report: Callable[[str, int, int], None]
) -> Arms:
    """Divide the images as `darkroom preprocess` does, without and with ``fixes``; ``dataset.on_leak`` is applied.

    Raises DataError if both learn the same, no test image is left, or ``apply_fixes`` raises it.
    """
    rows = assign_rows(decoded, config.preprocess, decoded.digests)
    fixed, fixed_rows, _ = apply_fixes(fixes, decoded, rows)
    without = _arm("without", config, decoded, rows, scratch, report)
    with_fixes = _arm("with", config, fixed, fixed_rows, scratch, report)
    if np.array_equal(without.rows, with_fixes.rows) and np.array_equal(without.labels, with_fixes.labels):
        raise DataError(
            "data/fixes.csv: the fixes change only test images, or train images that dataset.on_leak drops: nothing "
            "else is learned"
        )
    test = np.intersect1d(rows["test"], fixed_rows["test"])
    test = test[decoded.labels[test] == fixed.labels[test]]
    compared = np.setdiff1d(test, np.union1d(without.known, with_fixes.known))
    if not len(compared):
        raise DataError(
            "no test image to compare on: fixes change them, or their pictures are in train or val too; add test images"
        )
    return Arms((without, with_fixes), compared, len(test) - len(compared))


def _arm(
    name: str,
    config: Config,
    decoded: DecodedDataset,
    rows: dict[str, Ints],
    scratch: Path,
    report: Callable[[str, int, int], None],
) -> Arm:
    own = scratch / name
    own.mkdir()
    audit = compare_splits(decoded.images, scan(decoded.images, rows), config, own, report)
    seen, same = audit.seen, audit.same
    learned = np.sort(np.concatenate([rows[split] for split in LEARNED]))
    if config.dataset.on_leak == "drop-train":
        learned = np.setdiff1d(learned, seen.rows[same.leaking])
        same = audit.without_leaking()
    known = seen.rows[same.leaked & (seen.splits == SPLITS.index("test"))]
    return Arm(name, learned, decoded.labels[learned], known)
