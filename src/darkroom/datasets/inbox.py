"""Pictures that a server has kept and people have labeled: they join the train split of a folder.

They lie in the folder `inbox` of dataset.path, beside the table of their labels. `darkroom inbox` writes both. The
splits of all other images are as they would be without them, so that models of before and after are compared on the
same test images.
"""

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from darkroom.datasets.inventory import Inventory
from darkroom.datasets.labels import LabeledImages
from darkroom.datasets.splits import INBOX
from darkroom.errors import DataError, counted, did_you_mean, quoted
from darkroom.utils.csv_files import write_csv
from darkroom.utils.files import atomic_file, check_format, checked, read_json, write_json

FOLDER = "inbox"
TABLE = "labels.csv"
# What is needed, and then where a picture and its label are from.
COLUMNS = ("file", "label", "model", "version", "answer", "probability", "reason", "received", "who", "when")
STORED = "inbox.json"
FORMAT_VERSION = 1
MADE_BY = "darkroom download"
# The label of each file of the folder.
Labels = dict[str, str]


@dataclass(frozen=True)
class Accepted:
    """A line of the table: the columns as they are there."""

    file: str
    label: str
    model: str
    version: str
    answer: str
    probability: str
    reason: str
    received: str
    who: str
    when: str


def table_of(source: Path) -> Path:
    """Where the table lies in ``source``, the directory of a dataset."""
    return source / FOLDER / TABLE


def read_accepted(path: Path) -> list[Accepted]:
    """The lines of a table. Raises DataError if it is damaged, or names a file twice."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as opened:
            lines = csv.reader(opened, strict=True)
            header = tuple(next(lines, ()))
            if header != COLUMNS:
                raise DataError(f"{path}: line 1: the columns are {quoted(','.join(header))}; expected the "
                                f"{','.join(COLUMNS)} that `darkroom inbox` writes")  # fmt: skip
            found = []
            for cells in lines:
                if len(cells) != len(COLUMNS) or not cells[0] or not cells[1]:
                    raise DataError(
                        f"{path}: line {lines.line_num}: expected a file, a label and {len(COLUMNS)} cells in all, "
                        f"found {len(cells)}; mend or remove it"
                    )
                found.append(Accepted(*cells))
    except OSError as problem:
        raise DataError(f"{path}: cannot be read ({(problem.strerror or str(problem)).lower()})") from None
    except (UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"{path}: not a table that can be read ({problem}); save it as CSV UTF-8") from None
    for file, count in Counter(each.file for each in found).items():
        if count > 1:
            raise DataError(f"{path}: {counted(count, 'line')} of {file}; an image has one line, remove the others")
    return found


def write_accepted(path: Path, lines: Sequence[Accepted]) -> None:
    """Write a table that ``read_accepted`` reads."""
    with atomic_file(path) as partial:
        write_csv(partial, COLUMNS, ([getattr(line, name) for name in COLUMNS] for line in lines))


def read_labels(source: Path) -> Labels | None:
    """The labels of the pictures from the inbox in ``source``, by their names in it; None if it has no table of them.

    Raises DataError if that is damaged.
    """
    path = table_of(source)
    if not path.is_file():
        return None
    return {f"{FOLDER}/{line.file}": line.label for line in read_accepted(path)}


def store_labels(source: Path, directory: Path) -> None:
    """Leave in ``directory`` what ``read_labels`` finds in ``source``, for ``find_labels``. Raises DataError."""
    labels, stored = read_labels(source), directory / STORED
    if labels is None:
        stored.unlink(missing_ok=True)
    else:
        write_json(stored, {"format_version": FORMAT_VERSION, "labels": labels})


def find_labels(directory: Path) -> Labels | None:
    """What ``store_labels`` has left. Raises DataError if it is damaged."""
    path = directory / STORED
    if not path.exists():
        return None
    found = read_json(path, error=DataError, made_by=MADE_BY)
    check_format(found, FORMAT_VERSION, path, error=DataError, made_by=MADE_BY)
    return checked(Labels, found.get("labels", {}), path, error=DataError, made_by=MADE_BY)


def without_inbox(inventory: Inventory, labels: Labels | None) -> Inventory:
    """``inventory`` without the folder of the inbox, if it has a table of ``labels``: without images it is no class."""
    if labels is None:
        return inventory
    others = {name: kinds for name, kinds in inventory.folders.items() if name.partition("/")[0] != FOLDER}
    return replace(inventory, folders=others)


def label_with_inbox(
    names: Sequence[str], labels: Labels | None, label: Callable[[Sequence[str]], LabeledImages]
) -> LabeledImages:
    """Labels and splits of the images ``names`` [N]: of those of the inbox from its ``labels``, else by ``label``.

    Raises DataError if a file that the table names is not there, or its label is no class of the other images, and
    what ``label`` raises.
    """
    if labels is None:
        return label(names)
    is_kept = np.array([name.startswith(f"{FOLDER}/") for name in names])
    others = np.flatnonzero(~is_kept)
    found = label([names[row] for row in others.tolist()])
    found = replace(found, rows=others[found.rows])
    kept = [(row, names[row]) for row in np.flatnonzero(is_kept).tolist()]
    _refuse_lost(labels, {name for _, name in kept})
    _refuse_unknown(labels, found.classes)
    labeled = [(row, name) for row, name in kept if name in labels]
    if strange := [name for _, name in kept if name not in labels]:
        line = f"{FOLDER}/{TABLE} does not name {counted(len(strange), 'image')} beside it, such as {strange[0]}"
        found = replace(found, warnings=(*found.warnings, f"{line}; left out"))
    return _join(found, [row for row, _ in labeled], [found.classes.index(labels[name]) for _, name in labeled])


def _join(found: LabeledImages, rows: Sequence[int], labels: Sequence[int]) -> LabeledImages:
    """``found`` with images of the inbox, of which each is a group by itself."""
    count = len(rows)
    if not count:
        return found
    all_rows = np.concatenate([found.rows, np.array(rows, np.int64)])
    groups = found.groups
    if groups is not None:
        groups = np.concatenate([groups, groups.max() + 1 + np.arange(count)])
    line = f"{counted(count, 'image')} of the train split from the inbox, labels from {FOLDER}/{TABLE}"
    joined = replace(
        found,
        rows=all_rows,
        labels=np.concatenate([found.labels, np.array(labels, np.int64)]),
        splits=np.concatenate([found.splits, np.full(count, INBOX)]),
        groups=groups,
        attributes={
            name: np.concatenate([values, np.full(count, "", object)]) for name, values in found.attributes.items()
        },
        reading="; ".join(filter(None, [found.reading, line])),
    )
    return joined.take(np.argsort(all_rows))


def _refuse_lost(labels: Labels, there: set[str]) -> None:
    if lost := sorted(labels.keys() - there):
        raise DataError(
            f"{FOLDER}/{TABLE}: names {counted(len(lost), 'image')} that {'is' if len(lost) == 1 else 'are'} not in "
            f"dataset.path, such as {lost[0]}; bring them back, or remove their lines"
        )


def _refuse_unknown(labels: Labels, classes: Sequence[str]) -> None:
    for name, label in labels.items():
        if label not in classes:
            raise DataError(
                f"{FOLDER}/{TABLE}: the label {quoted(label)} of {name} is no class of the other images; "
                f"{did_you_mean(label, classes)}"
            )
