"""Assign images to splits: stratified by class, the same for the same seed."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from darkroom.config.settings import Preprocess
from darkroom.data.cache import SPLITS
from darkroom.data.digests import Digests
from darkroom.errors import DataError

# The split of images that people have labeled for a server: in train, and nothing is cut from them.
INBOX = "inbox"
MAX_NAMED = 5
# With fewer, the 95 % interval of an accuracy may reach ten points up and down.
FEW_IMAGES = 93

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

    ``labels`` and ``splits`` [N] are as in ``DecodedDataset``. A published test or val split is kept as it is;
    one that is missing is cut from train (or from all images where nothing was published). Images of the split INBOX
    are in train, and the others come to the splits that they have without them.

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
            contents = None if digests is None else digests[source]
            if groups is None:
                # Of each class train keeps one image, and one for the split that is cut after this one.
                left = 2 if split == "test" and "val" in missing else 1
                cut = _cut(labels[source], len(classes), fraction, left, seed, contents)
            else:
                cut = _cut_groups(labels[source], groups[source], len(classes), fraction, split, seed, contents)
            rows["train"], rows[split] = source[~cut], source[cut]
    rows["train"] = np.union1d(rows["train"], np.flatnonzero(splits == INBOX))
    return rows


class ImagesToSplit(Protocol):
    """Images without assigned splits; the fields are those of ``DecodedDataset``."""

    @property
    def labels(self) -> Ints: ...
    @property
    def splits(self) -> NDArray[np.str_]: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def groups(self) -> Ints | None: ...


def assign_rows(images: ImagesToSplit, settings: Preprocess, digests: Digests | None) -> dict[str, Ints]:
    """Call ``assign`` with the settings."""
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
    """Warnings about classes and splits, in lines: similar names, absent classes, few images."""
    lines = []
    by_folded: dict[str, list[str]] = {}
    for name in classes:
        by_folded.setdefault("".join(name.split()).casefold(), []).append(name)
    for alike in by_folded.values():
        if len(alike) > 1:
            named = " and ".join(map(repr, alike))
            lines.append(f"{named} are different classes, although only case or blanks differ; rename one to merge")
    for split in SPLITS:
        absent = np.setdiff1d(np.arange(len(classes)), labels[rows[split]])
        if len(absent):
            named = ", ".join(repr(classes[label]) for label in absent[:MAX_NAMED])
            more = f" and {len(absent) - MAX_NAMED:,} more" if len(absent) > MAX_NAMED else ""
            lines.append(
                f"{split} has no image of {len(absent):,} of {len(classes):,} classes ({named}{more}): "
                "its metrics say nothing about them"
            )
        if split != "train" and len(rows[split]) < FEW_IMAGES:
            lines.append(_doubt(split, len(rows[split])))
    return lines


def _doubt(split: str, images: int) -> str:
    from scipy.stats import binomtest

    # Of Wilson, for half of them right: where it is widest.
    interval = binomtest(images // 2, images).proportion_ci(0.95, method="wilson")
    return (
        f"{split} has {images} image{'' if images == 1 else 's'}: an accuracy measured on so few has a margin of "
        f"error of ±{50 * (interval.high - interval.low):.0f} points"
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
            f"class {classes[first]!r} has {have} in train{beside}: add images of it to train, or remove the class"
        )
    made = "train, val and test" if len(missing) == 2 else f"train and {missing[0]}"
    raise DataError(
        f"class {classes[first]!r} has {have} to learn from, but at least {needed} are needed, one each for {made}"
        f"{beside}: add images, or remove the class"
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
    order = generator.permutation(len(labels)) if digests is None else np.lexsort(_keys(digests, generator).T[::-1])
    by_class = np.split(order[np.argsort(labels[order], kind="stable")], np.cumsum(counts)[:-1])
    parts = [members[:count] for members, count in zip(by_class, take, strict=True)]
    return _mask(np.concatenate(parts), len(labels))


def _cut_groups(
    labels: Ints, groups: Ints, classes: int, fraction: float, split: str, seed: int, digests: Digests | None
) -> NDArray[np.bool_]:
    """Which images [N] a split takes: whole groups, in an order of their contents, as long as shares come nearer."""
    names, groups = np.unique(groups, return_inverse=True)
    pairs, counts = np.unique(groups * classes + labels, return_counts=True)
    group_of, label_of = np.divmod(pairs, classes)
    holders = np.bincount(label_of, minlength=classes)
    # A class of one group would be lost to train with it.
    may_go = np.ones(len(names), dtype=bool)
    may_go[group_of[holders[label_of] == 1]] = False
    movable = int(may_go.sum())
    if movable < 2:
        raise DataError(
            f"the {split} split cannot be cut by groups: of {len(names):,} groups {len(names) - movable:,} must stay "
            "in train as the only ones of a class, and two others are needed; add groups, or give each image a split"
        )
    order = np.argsort(_group_keys(groups, len(names), seed, digests))
    order = order[may_go[order]]
    begins = np.searchsorted(group_of, np.arange(len(names) + 1))
    totals, taken = np.bincount(labels, minlength=classes), np.zeros(classes, dtype=np.int64)
    chosen = np.zeros(len(names), dtype=bool)

    def consider(group: int, *, needed: int | None = None) -> None:
        """Take a group if the shares of its classes get nearer to the wanted share, or if a class is ``needed``."""
        here = slice(begins[group], begins[group + 1])
        own, more = label_of[here], counts[here]
        before, after = taken[own] / totals[own], (taken[own] + more) / totals[own]
        nearer = np.abs(after - fraction).sum() < np.abs(before - fraction).sum()
        if not chosen[group] and (after < 1).all() and (nearer or needed in own):
            taken[own] += more
            chosen[group] = True

    for group in order.tolist():
        consider(group)
    for label in np.flatnonzero((taken == 0) & (holders > 1)).tolist():
        for group in order[np.isin(order, group_of[label_of == label])].tolist():
            if not taken[label]:
                consider(group, needed=label)
    if not chosen.any():
        raise DataError(
            f"the {split} split cannot be cut by groups: train would lack a class; add groups, give each image a "
            f"split, or lower preprocess.{split}_fraction"
        )
    return chosen[groups]


def _group_keys(groups: Ints, count: int, seed: int, digests: Digests | None) -> NDArray[np.uint64]:
    """The sort key of groups: the smallest digest of their images, so that added images hardly change the order."""
    generator = np.random.default_rng(seed)
    if digests is None:
        return generator.permutation(count).astype(np.uint64)
    keys = np.full(count, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(keys, groups, _keys(digests, generator)[:, 0].astype(np.uint64))
    return keys


def _keys(digests: Digests, generator: np.random.Generator) -> NDArray[np.uint64]:
    """Digests as two numbers each [N, 2], by which another seed orders them in another way."""
    return (digests ^ generator.integers(0, 256, digests.shape[1], dtype=np.uint8)).view(">u8")


def _mask(chosen: Ints, count: int) -> NDArray[np.bool_]:
    mask = np.zeros(count, dtype=bool)
    mask[chosen] = True
    return mask
