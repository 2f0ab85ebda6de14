"""Labels from a table: the image of each row, and its label and split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.config.addresses import SCHEME
from darkroom.datasets.source import Attributes
from darkroom.datasets.split_names import PRED, WORDS, find_splits
from darkroom.datasets.tables import Columns, Table, composed, read_table
from darkroom.errors import DataError, counted

MAX_NAMED = 3
SPLITS_BY_NAME = {name: split for name, split in WORDS.items() if split != PRED}

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LabeledImages:
    """The M images that have a label: ``rows`` int64 [M], where they are among all names, in ascending order.

    All else is as in ``DecodedDataset``, ``classes`` in the order of their names.
    """

    rows: Ints
    labels: Ints
    splits: NDArray[np.str_]
    classes: tuple[str, ...]
    groups: Ints | None = None
    attributes: Attributes = field(default_factory=dict)
    reading: str = ""
    warnings: tuple[str, ...] = ()

    def take(self, chosen: Ints) -> "LabeledImages":
        """The images at the positions ``chosen`` among the M."""
        return replace(
            self,
            rows=self.rows[chosen],
            labels=self.labels[chosen],
            splits=self.splits[chosen],
            groups=None if self.groups is None else self.groups[chosen],
            attributes={name: values[chosen] for name, values in self.attributes.items()},
        )


def label_images(path: Path, names: Sequence[str]) -> LabeledImages:
    """Labels and splits from the table at ``path`` for the images ``names`` [N], their paths in the dataset.

    A row's file is an image's whole path, or the end of one, or ends with one, each with or without the suffix; the
    first of these that matches one image counts.

    Raises DataError if a row matches no image or several, rows of one image differ, there are fewer than two classes, a
    split has an unknown name, or splits cut a group or are those of some folders only.
    """
    table = read_table(path, path.name)
    found = _match(table, names)
    _refuse_disagreement(table, found, names)
    rows, first = np.unique(found, return_index=True)
    chosen = {role: values.take(first) for role, values in table.columns.items()}
    labels, classes = _numbered(chosen["label"])
    if len(classes) < 2:
        raise DataError(f"{table.name}: one class only ({classes[0]!r}); a classifier needs two at least")
    named = [names[row] for row in rows.tolist()]
    splits, remark = _splits(table, chosen, named)
    groups = None
    attributes: Attributes = {column: _shared(values.take(first)) for column, values in table.others.items()}
    if "group" in chosen:
        groups, owners = _numbered(chosen["group"])
        _refuse_cut_groups(table, groups, splits, owners)
        attributes = {table.named["group"]: _shared(chosen["group"]), **attributes}
    warnings = []
    if left := len(names) - len(rows):
        other = names[int(np.setdiff1d(np.arange(len(names)), rows)[0])]
        warnings.append(
            f"{table.name} does not name {left:,} of {counted(len(names), 'image')}, such as {other}; left out"
        )
    reading = table.reading + remark
    return LabeledImages(rows, labels, splits, tuple(classes), groups, attributes, reading, tuple(warnings))


def _match(table: Table, names: Sequence[str]) -> Ints:
    """The image of each row of the table, int64 [rows]. Raises DataError."""
    import pyarrow as pa
    from pyarrow import compute

    files = compute.replace_substring_regex(table.columns["file"], r"\\", "/")
    files = compute.replace_substring_regex(files, r"^(\./)+", "")
    # What an address names was downloaded to a path that says all but how.
    files = compute.replace_substring_regex(files, rf"(?i){SCHEME.pattern}", "")
    paths = composed(pa.array(names, pa.string()))  # as the table's texts are
    stems = compute.replace_substring_regex(paths, r"\.[^./]*$", "")
    found = np.full(len(files), -1)
    several = np.zeros(len(files), dtype=bool)

    def look(images: Any, wanted: Any, among: NDArray[np.bool_]) -> None:
        """Find rows that are still open: those ``among`` whose ``wanted`` text is that of one of the images."""
        todo = np.flatnonzero((found < 0) & ~several & among)
        if len(todo) == 0:
            return
        keys = images.dictionary_encode()
        number = keys.indices.to_numpy()
        counts = np.bincount(number)
        owner = np.empty(len(counts), dtype=np.int64)
        owner[number] = np.arange(len(number))
        place = compute.fill_null(compute.index_in(wanted.take(todo), value_set=keys.dictionary), -1).to_numpy()
        several[todo[(place >= 0) & (counts[place] > 1)]] = True
        found[todo] = np.where((place >= 0) & (counts[place] == 1), owner[place], -1)

    every = np.ones(len(files), dtype=bool)
    look(paths, files, every)
    look(stems, files, every)
    parts = compute.count_substring(files, "/").to_numpy() + 1
    for count in np.unique(parts[(found < 0) & ~several]).tolist():
        look(_last_parts(paths, count), files, parts == count)
        look(_last_parts(stems, count), files, parts == count)
    # A path on another machine, or from further up: it ends with an image's whole path, and no folder is another one.
    for count in np.unique(compute.count_substring(paths, "/").to_numpy() + 1)[::-1].tolist():
        ends = _last_parts(files, count)
        look(paths, ends, parts > count)
        look(stems, ends, parts > count)
    missing = f"that are not among the images, which are called {names[0]}"
    _refuse_unmatched(table, np.flatnonzero((found < 0) & ~several), missing + (", …" if len(names) > 1 else ""))
    _refuse_unmatched(table, np.flatnonzero(several), "that may each be several images; write their paths in full")
    return found


def _last_parts(paths: Any, count: int) -> Any:
    """The last ``count`` parts of each path."""
    from pyarrow import compute

    return compute.replace_substring_regex(paths, rf"^.*/((?:[^/]*/){{{count - 1}}}[^/]*)$", r"\1")


def _refuse_unmatched(table: Table, rows: Ints, what: str) -> None:
    if len(rows):
        examples = _examples(rows, lambda row: f"{table.cell('file', row)} ({table.line(row)})")
        raise DataError(
            f"{table.name}: names {counted(len(rows), 'file')} of {len(table.columns['file']):,} {what}: {examples}"
        )


def _refuse_disagreement(table: Table, found: Ints, names: Sequence[str]) -> None:
    """Refuse rows of one image with different labels, splits or names."""
    order = np.argsort(found, kind="stable")
    again = np.flatnonzero(np.diff(found[order]) == 0)
    for role in [role for role in ("label", "split", "group", "file") if role in table.columns]:
        codes = table.columns[role].dictionary_encode().indices.to_numpy()[order]
        differ = again[codes[again] != codes[again + 1]]
        if len(differ):
            images = len(np.unique(found[order[differ]]))

            def say(place: int, role: str = role) -> str:
                rows = order[place], order[place + 1]
                cells = " and ".join(f"{table.cell(role, row)!r} in {table.line(row)}" for row in rows)
                return f"{names[found[rows[0]]]} ({cells})"

            raise DataError(
                f"{table.name}: {counted(images, 'image')} in rows with different {role}s: {_examples(differ, say)}; "
                "an image has one row"
            )


def _splits(table: Table, chosen: Columns, names: Sequence[str]) -> tuple[NDArray[np.str_], str]:
    """The split of each image, "" if none is given, and a note if it comes from the folders."""
    undecided = np.full(len(names), "", dtype="<U5")
    if "split" in chosen:
        numbers, values = _numbered(chosen["split"])
        if values == [""]:
            return undecided, ""
        strange = [value for value in values if value.casefold() not in SPLITS_BY_NAME]
        if strange:
            images = counted(int((numbers == values.index(strange[0])).sum()), "image")
            raise DataError(
                f"{table.name}: unknown split {strange[0]!r} of {images} in column {table.named['split']!r}; expected "
                f"one of {', '.join(SPLITS_BY_NAME)}, or nothing in any row"
            )
        return np.array([SPLITS_BY_NAME[value.casefold()] for value in values], dtype="<U5")[numbers], ""
    folders, owner = np.unique([name.rpartition("/")[0] for name in names], return_inverse=True)
    found = _folder_splits(folders.tolist())[owner]
    given = set(found.tolist())
    if "" in given and given & {"val", "test"}:
        counts = ", ".join(f"{(found == split).sum():,} in {split or 'none'}" for split in sorted(given))
        outside = names[int(np.argmax(found == ""))]
        raise DataError(
            f"{table.name}: some images are in folders of splits and others are not ({counts}), such as {outside}; "
            "move them, or give the table a column split"
        )
    if "" in given or len(given) < 2:
        return undecided, ""
    return found, "; splits from the folders"


def _folder_splits(folders: Sequence[str]) -> NDArray[np.str_]:
    """The split that a part of each path [N] is named as, "" if none is."""
    parts = [folder.split("/") for folder in folders]
    splits = find_splits({part for path in parts for part in path})
    named = ((splits[part] for part in path if splits.get(part, PRED) != PRED) for path in parts)
    return np.array([next(each, "") for each in named], dtype="<U5")


def _refuse_cut_groups(table: Table, groups: Ints, splits: NDArray[np.str_], owners: Sequence[str]) -> None:
    numbers = np.unique(splits, return_inverse=True)[1]
    low, high = (np.full(len(owners), each) for each in (numbers.max(), 0))
    np.minimum.at(low, groups, numbers)
    np.maximum.at(high, groups, numbers)
    cut = np.flatnonzero(low < high)
    if len(cut):
        own = splits[groups == cut[0]]
        advice = (
            "remove the split column"
            if "split" in table.named
            else "a column split to the table, as those are of folders"
        )
        counts = ", ".join(f"{(own == split).sum():,} in {split}" for split in np.unique(own))
        raise DataError(
            f"{table.name}: the splits cut {len(cut):,} of {counted(len(owners), 'group')}: {owners[cut[0]]!r} of "
            f"column {table.named['group']!r} has images in several ({counts}), so that a test would ask for what was "
            f"learned; give each group one split, or {advice}"
        )


def _numbered(values: Any) -> tuple[Ints, list[str]]:
    """Texts as int64 [N] indices into the sorted list of distinct texts."""
    coded = values.dictionary_encode()
    texts = coded.dictionary.to_pylist()
    order = sorted(range(len(texts)), key=texts.__getitem__)
    ranks = np.empty(len(texts), dtype=np.int64)
    ranks[order] = np.arange(len(texts))
    return ranks[coded.indices.to_numpy()], [texts[number] for number in order]


def _shared(values: Any) -> NDArray[np.object_]:
    """Texts [N], of which equal ones are one object."""
    numbers, texts = _numbered(values)
    return np.array(texts, dtype=object)[numbers]


def _examples(rows: Ints, say: Callable[[int], str]) -> str:
    more = f" and {len(rows) - MAX_NAMED:,} more" if len(rows) > MAX_NAMED else ""
    return ", ".join(say(row) for row in rows[:MAX_NAMED].tolist()) + more
