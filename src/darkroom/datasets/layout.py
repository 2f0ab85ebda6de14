"""Which folder is which class and split.

Supported layouts: one folder for each class; the same below folders of splits; either of them below enclosing folders,
and each split below one more folder. An ambiguous layout is refused, and the message shows the tree: both
interpretations would give a model, one of them a wrong one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from darkroom.datasets.inventory import HIDDEN, in_words
from darkroom.datasets.split_names import ALSO_CLASSES, PRED, find_splits, plain_split, speaks_of_split
from darkroom.datasets.tree import Node, draw, grow
from darkroom.errors import DataError

UNLABELED = -1
# Folders with only such files are documentation, not classes that lost their images.
DOCUMENT = re.compile(
    r"\.(txt|[ct]sv|jsonl?|xml|ya?ml|rst|html?|pdf|docx?|xlsx?|py|ipynb|m(d|at)?|log|np[yz]|pkl|h5|pth?)"
)
Folders = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Layout:
    """How a tree is read.

    ``root`` is the folder below those around everything. ``holders`` are the folders that the class folders lie in,
    with the split of each: ``root`` itself with the split "" where there are no splits. ``unlabeled`` are
    the folders whose images have no class, and are left out.
    """

    root: Node
    holders: tuple[tuple[str, Node], ...]
    unlabeled: tuple[Node, ...]

    def classes_of(self, *splits: str) -> list[str]:
        return sorted({name for split, holder in self.holders if split in splits for name in holder.folders})


def arrange(
    names: Sequence[str], imageless: Folders | None = None
) -> tuple[NDArray[np.int64], NDArray[np.str_], tuple[str, ...]]:
    """Labels [N] (UNLABELED, -1, for images to leave out), splits [N] ("" where none is given) and class names.

    ``names`` are the images' paths, ``imageless`` the folders without an image, as in ``Inventory.folders``.

    Left out are images in a folder for predictions, and those of a test split that has no class folders at all. Raises
    DataError if an image is outside the class folders, there are fewer than two classes, a class folder has no
    image, there is no train split among given splits, a split has a class that train lacks, or the folders could
    be read in another way too.
    """
    layout = read_layout(grow(names))
    refuse_imageless(layout, imageless or {})
    folders: dict[str, int] = {}
    owners = (folders.setdefault(name.rpartition("/")[0], len(folders)) for name in names)
    rows = np.fromiter(owners, dtype=np.int64, count=len(names))
    places = [_place(layout, folder) for folder in folders]
    if None in places:
        _refuse_outside(layout, names[np.flatnonzero(rows == places.index(None))[0]])
    classes = _check_classes(layout)
    label_of = {name: label for label, name in enumerate(classes)}
    labels = np.array([label_of.get(place[1], UNLABELED) for place in places if place], dtype=np.int64)
    splits = np.array([place[0] for place in places if place], dtype="<U5")
    return labels[rows], splits[rows], classes


def read_layout(tree: Node) -> Layout:
    """Raises DataError where the tree could be read in more than one way."""
    root = _look_through(tree)
    splits = _splits_in(root)
    if not splits:
        _refuse_shared_folders(root, [root])
        _refuse_splits_below(root, [root])
        return Layout(root, (("", root),), ())
    tops = {split: root.folders[name] for name, split in splits.items()}
    holders = {split: _inner(top, split) for split, top in tops.items() if split != PRED}
    inner = [holder.only_folder() for holder in holders.values() if holder.folders]
    if all(node and not node.images for node in inner) and len({node.name for node in inner if node}) == 1:
        # One folder in each split, `images` for instance: no class, or there would be only that.
        holders |= {split: node for split, holder in holders.items() if (node := holder.only_folder())}
    unlabeled = [top for split, top in tops.items() if split == PRED]
    if "test" in holders:
        known = {name for split in ("train", "val") if split in holders for name in holders[split].folders}
        test = _flat_inner(holders["test"], known)
        if test.images and not test.folders:
            unlabeled.append(test)
            del holders["test"]
    for holder in holders.values():
        _refuse_copies(holder, is_whole=False)
    _refuse_shared_folders(root, list(holders.values()))
    _refuse_splits_below(root, list(holders.values()))
    return Layout(root, tuple(holders.items()), tuple(unlabeled))


def refuse_imageless(layout: Layout, imageless: Folders) -> None:
    """Raises DataError if a class folder or a split has no image, or a folder beside them may have lost its images."""
    classes = set(layout.classes_of(*(split for split, _ in layout.holders)))
    class_level = {holder.path for _, holder in layout.holders}
    above = {"/".join(path.split("/")[:depth]) for path in class_level for depth in range(path.count("/") + 1)}
    for folder, kinds in imageless.items():
        parent, _, name = folder.rpartition("/")
        held = f"{folder}/ has no image in it ({in_words(kinds)})"
        if parent in class_level and name not in classes:
            raise DataError(f"{held}, but is next to the class folders; put images there or remove it")
        if parent in class_level or parent not in above:
            continue
        if find_splits([*layout.root.folders, name]).get(name, PRED) != PRED:
            raise DataError(f"{held}, but its name is that of a split; put images there or remove it")
        seen = kinds.keys() - {HIDDEN}
        if not seen or not all(map(DOCUMENT.fullmatch, seen)):
            raise DataError(f"{held}, but is next to folders that have some; put images there or remove it")


def _look_through(tree: Node) -> Node:
    """The innermost folder that contains all classes and splits."""
    node = tree
    while (inner := node.only_folder()) and not inner.images and not plain_split(inner.name):
        node = inner
    return node


def _splits_in(root: Node) -> dict[str, str]:
    """{name: split} of the folders in ``root``, empty if they are classes. Raises DataError."""
    splits = find_splits(root.folders)
    others = [name for name in root.folders if name not in splits]
    _refuse_copies(root, is_whole=True)
    if len(splits) == 1 and others and not any(map(speaks_of_split, others)):
        (name,) = splits
        # A class by its name and its images. Those of a train split lie in class folders.
        if name.lower() in ALSO_CLASSES and not root.folders[name].folders:
            return {}
    if splits and others:
        _refuse(
            root,
            f"names of splits ({_list(splits)}) are mixed with other names ({_list(others)}); rename or move the ones "
            "or the others; if all of them are classes, put them into one folder called train",
        )
    if len(set(splits.values())) < len(splits):
        split = next(split for split in splits.values() if list(splits.values()).count(split) > 1)
        twins = [name for name, each in splits.items() if each == split]
        _refuse(root, f"{_list(twins)} all mean the {split} split; merge them or rename all but one")
    return splits


def _inner(top: Node, split: str) -> Node:
    """The folder of a split that the class folders lie in: below one of the same name, where all of it lies."""
    node = top
    while (inner := node.only_folder()) and not inner.images and _same_split(inner, top, split):
        node = inner
    return node


def _flat_inner(test: Node, classes: set[str]) -> Node:
    """As ``_inner``, for a folder in the test split that has images alone, and is no class."""
    inner = test.only_folder()
    if inner and not inner.folders and _same_split(inner, test, "test") and inner.name not in classes:
        return inner
    return test


def _same_split(inner: Node, top: Node, split: str) -> bool:
    return inner.name.lower() == top.name.lower() or plain_split(inner.name) == split


def _refuse_copies(root: Node, *, is_whole: bool) -> None:
    """Refuse a folder that contains folders named like its siblings, as after unpacking an archive twice."""
    for folder in root.folders.values():
        inner = _look_through(folder)
        again = sorted(inner.folders.keys() & (root.folders.keys() - {folder.name}))
        if len(again) > 1:
            _refuse(
                root,
                f"{_list(again)} are in {root.path or '.'}/ and again in {inner.path}/; remove one of the two"
                + (f", or set dataset.path to the folder {inner.path} in it (unpack an archive first)" * is_whole),
            )


def _refuse_shared_folders(root: Node, holders: Sequence[Node]) -> None:
    """Refuse "classes" that have subfolders of the same names: these may be the real classes."""
    inside: dict[str, set[str]] = {}
    for holder in holders:
        for name, node in holder.folders.items():
            inside.setdefault(name, set()).update(node.folders if not node.images else ())
    owners: dict[str, list[str]] = {}
    for name, folders in inside.items():
        for folder in folders:
            owners.setdefault(folder, []).append(name)
    shared = {folder: names for folder, names in owners.items() if len(names) > 1}
    outer = sorted({name for names in shared.values() for name in names})
    # With one folder each, such as cat/images and dog/images, it is clear.
    if any(len(inside[name]) > 1 for name in outer):
        _refuse(
            root,
            f"{_list(outer)} hold folders of the same names, {_list(sorted(shared))}: which of them are the classes? "
            "If the outer ones are, move the images up into them; if the inner ones are, merge the outer ones or call "
            "them train, val and test; or list each image's class in a table (dataset.labels)",
        )


def _refuse_splits_below(root: Node, holders: Sequence[Node]) -> None:
    """Refuse a "class" that is divided into splits: it may be a dataset of its own, or its splits would be mixed."""
    for node in (node for holder in holders for node in holder.folders.values()):
        splits = {plain_split(name) for name in node.folders}
        only = node.only_folder()
        is_divided = {"train", "test"} <= splits or {"train", "val"} <= splits
        if not is_divided and (node.images or None in splits or (only and len(only.folders) < 2)):
            continue
        _refuse(
            root,
            f"{node.path}/ is where a class is expected, but holds {_list(node.folders)}, as a whole dataset does; set "
            f"dataset.path to it (unpack an archive first), or put the splits around the classes (train/{node.name}/)",
        )


def _refuse(root: Node, problem: str) -> NoReturn:
    raise DataError(f"{problem}. The folders as they were understood:", *draw(root))


def _list(names: Iterable[str]) -> str:
    """Names in words, the first few."""
    shown = [f"{name}/" for name in names]
    more = f" and {len(shown) - 5:,} more" if len(shown) > 5 else ""
    return ", ".join(shown[:5]) + more


def _place(layout: Layout, folder: str) -> tuple[str, str] | None:
    """The split and the class that a folder's images belong to, both "" for those to leave out; None for nowhere."""
    if any(_below(node, folder) is not None for node in layout.unlabeled):
        return "", ""
    for split, holder in layout.holders:
        inside = _below(holder, folder)
        if inside:
            return split, inside.partition("/")[0]
    return None


def _below(node: Node, folder: str) -> str | None:
    """The path of a folder below a node, "" for the node itself, None where it lies elsewhere."""
    above = f"{node.path}/" if node.path else ""
    return f"{folder}/"[len(above) :].rstrip("/") if f"{folder}/".startswith(above) else None


def _refuse_outside(layout: Layout, name: str) -> NoReturn:
    place = "a class folder" if ("", layout.root) in layout.holders else "a class folder below its split"
    raise DataError(f"{name}: is outside {place}; expected one sub-folder per class with images in it")


def _check_classes(layout: Layout) -> tuple[str, ...]:
    """The classes that there are to learn. Raises DataError."""
    classes = layout.classes_of("", "train")
    splits = [split for split, _ in layout.holders]
    if not classes:
        names = sorted([*splits, *(node.path for node in layout.unlabeled)])
        raise DataError(f"splits {', '.join(names)} found, but no train; add it with the images to train on")
    strangers = sorted(set(layout.classes_of("val", "test")) - set(classes))
    if strangers:
        raise DataError(f"class {strangers[0]!r} has images in val or test, but none in train; add some or remove it")
    if len(classes) < 2:
        raise DataError(f"one class only ({classes[0]!r}); a classifier needs two at least: one sub-folder per class")
    return tuple(classes)
