"""Which image belongs to which split: stratified by class, the same for the same seed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from darkroom.data.cache import SPLITS
from darkroom.errors import DataError
from darkroom.settings import Preprocess


def assign(
    labels: NDArray[np.int64],
    splits: NDArray[np.str_],
    classes: Sequence[str],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> dict[str, NDArray[np.int64]]:
    """The rows of each split, in ascending order.

    ``labels`` and ``splits`` [N] are as in ``Decoded``. A published test or val split is kept as it is;
    one that is missing is cut from train (or from all images where nothing was published).

    Raises DataError if a class would have no image in one of the splits, saying how many it needs.
    """
    rows = {split: np.flatnonzero(splits == split) for split in SPLITS}
    rows["train"] = np.flatnonzero((splits == "train") | (splits == ""))
    for split, fraction in (("test", test_fraction), ("val", val_fraction)):
        if len(rows[split]) == 0:
            rows["train"], rows[split] = _cut(rows["train"], labels, classes, fraction, split, seed)
    for split in SPLITS:
        missing = np.setdiff1d(np.arange(len(classes)), labels[rows[split]])
        if len(missing):
            raise DataError(
                f"class {classes[missing[0]]!r} has no image in the {split} split; add images of it to {split}"
            )
    return rows


def assign_rows(
    labels: NDArray[np.int64], splits: NDArray[np.str_], classes: Sequence[str], settings: Preprocess
) -> dict[str, NDArray[np.int64]]:
    """``assign`` as the settings say."""
    return assign(
        labels,
        splits,
        classes,
        val_fraction=settings.val_fraction,
        test_fraction=settings.test_fraction,
        seed=settings.seed,
    )


def _cut(
    rows: NDArray[np.int64], labels: NDArray[np.int64], classes: Sequence[str], fraction: float, split: str, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    counts = np.bincount(labels[rows], minlength=len(classes))
    smallest = int(counts.argmin())
    # With fewer, rounding could leave the class out of the smaller part.
    needed = max(2, int(np.ceil(1 / min(fraction, 1 - fraction))))
    if counts[smallest] < needed:
        raise DataError(
            f"class {classes[smallest]!r} has {counts[smallest]} images to cut the {split} split from; with "
            f"preprocess.{split}_fraction {fraction} at least {needed} are needed: "
            "add images or move the fraction towards 0.5"
        )
    from sklearn.model_selection import train_test_split  # a second to import: only where something is cut

    kept, cut = train_test_split(rows, test_size=fraction, stratify=labels[rows], random_state=seed)
    return np.sort(kept), np.sort(cut)
