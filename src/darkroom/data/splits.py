"""Which image belongs to which split: stratified by class, the same for the same seed."""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from darkroom.data.cache import SPLITS
from darkroom.data.digests import Digests
from darkroom.errors import DataError
from darkroom.settings import Preprocess

MAX_NAMED = 5
# With fewer, the 95 % interval of an accuracy may reach ten points up and down.
FEW_IMAGES = 93
# Draws of groups, of which the best is taken: of many groups, where a draw takes a second, any has good shares.
DRAWS, DRAWS_OF_MANY, MANY_GROUPS = 50, 5, 2000

Ints = NDArray[np.int64]


def assign(
    labels: Ints,
    splits: NDArray[np.str_],
    classes: Sequence[str],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    groups: Ints | None = None,
    digests: Digests | None = None,
) -> dict[str, Ints]:
    """The rows of each split, in ascending order.

    ``labels`` and ``splits`` [N] are as in ``Decoded``. A published test or val split is kept as it is;
    one that is missing is cut from train (or from all images where nothing was published).

    With ``digests`` [N, 16] of the images' files they decide, and not the images' order: where some are added, nearly
    all others stay in their split, so that models of before and after can be compared on the test images they share.

    Every class has an image in train, and in each split that is cut: at least one, whatever the fraction.
    With ``groups`` [N] a cut takes whole groups: no group is in two splits. Then the shares of the split
    and of its classes are as near to the wanted ones as the groups allow, and it may lack a class: one that
    comes from a single group stays in train.

    Raises DataError if a class has too few images for that, or there are too few groups.
    """
    rows = {split: np.flatnonzero(splits == split) for split in SPLITS}
    rows["train"] = np.flatnonzero((splits == "train") | (splits == ""))
    missing = [split for split in SPLITS if split != "train" and len(rows[split]) == 0]
    _refuse_small(np.bincount(labels[rows["train"]], minlength=len(classes)), classes, missing)
    for split, fraction in (("test", test_fraction), ("val", val_fraction)):
        if split in missing:
            source = rows["train"]
            if groups is None:
                # Of each class train keeps one image, and one for the split that is cut after this one.
                left = 2 if split == "test" and "val" in missing else 1
                order = None if digests is None else digests[source]
                cut = _cut(labels[source], len(classes), fraction, left, seed, order)
            else:
                cut = _cut_groups(labels[source], groups[source], len(classes), fraction, split, seed)
            rows["train"], rows[split] = source[~cut], source[cut]
    return rows


class Labelled(Protocol):
    """Images whose splits are to be decided; all as in ``Decoded``."""

    @property
    def labels(self) -> Ints: ...
    @property
    def splits(self) -> NDArray[np.str_]: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def groups(self) -> Ints | None: ...


def assign_rows(images: Labelled, settings: Preprocess, digests: Digests | None) -> dict[str, Ints]:
    """``assign`` as the settings say."""
    return assign(
        images.labels,
        images.splits,
        images.classes,
        val_fraction=settings.val_fraction,
        test_fraction=settings.test_fraction,
        seed=settings.seed,
        groups=images.groups,
        digests=digests,
    )


def shortcomings(labels: Ints, rows: dict[str, Ints], classes: Sequence[str]) -> list[str]:
    """What the figures of the splits are not worth, in lines: classes without an image, and few images."""
    lines = []
    for split in SPLITS:
        absent = np.setdiff1d(np.arange(len(classes)), labels[rows[split]])
        if len(absent):
            named = ", ".join(repr(classes[label]) for label in absent[:MAX_NAMED])
            more = f" and {len(absent) - MAX_NAMED:,} more" if len(absent) > MAX_NAMED else ""
            lines.append(
                f"{split} has no image of {len(absent):,} of {len(classes):,} classes ({named}{more}): "
                "its figures say nothing of them"
            )
        if split != "train" and len(rows[split]) < FEW_IMAGES:
            lines.append(_doubt(split, len(rows[split])))
    return lines


def _doubt(split: str, images: int) -> str:
    from scipy.stats import binomtest

    # Of Wilson, for half of them right: where it is widest.
    interval = binomtest(images // 2, images).proportion_ci(0.95, method="wilson")
    return (
        f"{split} has {images} image{'' if images == 1 else 's'}: an accuracy measured on so few is known to "
        f"±{50 * (interval.high - interval.low):.0f} points"
    )


def _refuse_small(counts: Ints, classes: Sequence[str], missing: Sequence[str]) -> None:
    """Refuse classes with fewer images (``counts`` [classes]) than there are splits to be made of them."""
    needed = 1 + len(missing)
    small = np.flatnonzero(counts < needed)
    if len(small) == 0:
        return
    first = small[0]
    have = "no image" if counts[first] == 0 else "1 image" if counts[first] == 1 else f"{counts[first]} images"
    others = ", ".join(f"{classes[label]!r} ({counts[label]})" for label in small[1 : 1 + MAX_NAMED])
    more = f" and {len(small) - 1 - MAX_NAMED:,} more" if len(small) - 1 > MAX_NAMED else ""
    beside = f"; too few have {others}{more} too" if others else ""
    if not missing:
        raise DataError(
            f"class {classes[first]!r} has {have} in train{beside}: add images of it to train, or take the class away"
        )
    made = "train, val and test" if len(missing) == 2 else f"train and {missing[0]}"
    raise DataError(
        f"class {classes[first]!r} has {have} to learn from, but at least {needed} are needed, one each for {made}"
        f"{beside}: add images, or take the class away"
    )


def _cut(
    labels: Ints, classes: int, fraction: float, left: int, seed: int, digests: Digests | None
) -> NDArray[np.bool_]:
    """Which images [N] a split takes: of each class its share, at least one, and all but ``left`` at most."""
    counts = np.bincount(labels, minlength=classes)
    # With fewer, rounding could leave a class out of the smaller part.
    if digests is None and counts.min() >= max(2, int(np.ceil(1 / min(fraction, 1 - fraction)))):
        from sklearn.model_selection import train_test_split  # a second to import: only where something is cut

        _, chosen = train_test_split(np.arange(len(labels)), test_size=fraction, stratify=labels, random_state=seed)
        if (counts - np.bincount(labels[chosen], minlength=classes)).min() >= left:
            return _mask(chosen, len(labels))
    take = np.clip(np.rint(counts * fraction), 1, counts - left).astype(np.int64)
    generator = np.random.default_rng(seed)
    if digests is None:
        order = generator.permutation(len(labels))
    else:
        # Another seed gives another order.
        keys = digests ^ generator.integers(0, 256, digests.shape[1], dtype=np.uint8)
        order = np.lexsort(keys.view(">u8").T[::-1])
    by_class = np.split(order[np.argsort(labels[order], kind="stable")], np.cumsum(counts)[:-1])
    parts = [members[:count] for members, count in zip(by_class, take, strict=True)]
    return _mask(np.concatenate(parts), len(labels))


def _cut_groups(labels: Ints, groups: Ints, classes: int, fraction: float, split: str, seed: int) -> NDArray[np.bool_]:
    """Which images [N] a split takes: of several draws of whole groups the one with the best shares of the classes."""
    pairs = np.unique(labels * (groups.max() + 1) + groups)
    label_of, group_of = np.divmod(pairs, groups.max() + 1)
    # A class of one group would be lost to train with it.
    stay = np.unique(group_of[np.bincount(label_of, minlength=classes)[label_of] == 1])
    free = np.flatnonzero(~np.isin(groups, stay))
    movable = len(np.unique(groups[free]))
    if movable < 2:
        raise DataError(
            f"the {split} split cannot be cut by groups: of {len(stay) + movable:,} groups {len(stay):,} must stay in "
            "train as the only ones of a class, and two others are needed; add groups, or give each image a split"
        )
    from sklearn.model_selection import GroupShuffleSplit

    # As many as hold every class, if each holds as many classes as the mean one; but never a third of all for that.
    enough = min(math.ceil(classes * len(np.unique(groups)) / len(pairs)), movable // 3)
    count = min(max(round(fraction * len(labels) / len(free) * movable), enough, 1), movable - 1)
    tries = DRAWS if movable < MANY_GROUPS else DRAWS_OF_MANY
    draws = GroupShuffleSplit(tries, test_size=count, random_state=seed)
    totals = np.bincount(labels, minlength=classes)

    def badness(chosen: Ints) -> tuple[int, int, float]:
        taken = np.bincount(labels[chosen], minlength=classes)
        return int((taken == totals).sum()), int((taken == 0).sum()), float(np.abs(taken / totals - fraction).sum())

    chosen = min((free[members] for _, members in draws.split(free, groups=groups[free])), key=badness)
    if badness(chosen)[0]:
        raise DataError(
            f"the {split} split cannot be cut by groups: train would lack a class; add groups, give each image a "
            f"split, or lower preprocess.{split}_fraction"
        )
    return _mask(chosen, len(labels))


def _mask(chosen: Ints, count: int) -> NDArray[np.bool_]:
    mask = np.zeros(count, dtype=bool)
    mask[chosen] = True
    return mask
