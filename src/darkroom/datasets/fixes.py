"""What people decided about single images, data/fixes.csv: keep, drop, relabel or move them.

An image is known by its content, so that a decision follows a renamed file, and by its label then. The splits are
assigned before: a decision changes its own image, and no other one comes to another split by it.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from darkroom.data.cache import SPLITS
from darkroom.data.digests import Digests, content_digest, from_hex, number, stack
from darkroom.data.memmap import gather
from darkroom.datasets.source import DecodedDataset
from darkroom.errors import DataError, counted, did_you_mean, quoted
from darkroom.utils.csv_files import write_csv

Decision = Literal["keep", "drop", "relabel", "move"]
COLUMNS = ("digest", "file", "given", "decision", "new", "who", "when")
DECISIONS: tuple[Decision, ...] = get_args(Decision)
# Words that people write for decisions.
MEANT = {"remove": "drop", "delete": "drop"}
DONE = {"keep": "kept", "drop": "dropped", "relabel": "relabeled", "move": "moved"}
DIGEST = re.compile(r"[0-9a-f]{32}")
LEFT_OUT = -1

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Fix:
    """A line of data/fixes.csv.

    It is about the images with the content ``digest`` (32 hexadecimal digits) and the label ``given``. ``new`` is a
    class for relabel, a split for move, else empty. ``file``, ``who`` and ``when`` are for people. ``where`` is the
    line, for messages.
    """

    digest: str
    file: str
    given: str
    decision: Decision
    new: str
    who: str
    when: str
    where: str = field(default="", compare=False)

    @property
    def image(self) -> str:
        return self.file or f"the image {self.digest[:12]}"


def read_fixes(path: Path) -> list[Fix]:
    """The lines of a file of fixes, one for each image; none if there is no file.

    Raises DataError if it cannot be read, a column is missing or unknown, a value is not possible, or two lines decide
    differently about an image.
    """
    try:
        # Excel writes a mark before the text.
        with path.open(newline="", encoding="utf-8-sig") as opened:
            table = csv.reader(opened, strict=True)
            header = next(table, [])
            if sorted(header) != sorted(COLUMNS):
                raise DataError(
                    f"{path}: line 1: the columns are {_header_problem(header)}; expected {','.join(COLUMNS)}"
                )
            fixes = [_read(header, cells, f"{path}: line {table.line_num}") for cells in table if cells]
    except FileNotFoundError:
        return []
    except OSError as problem:
        raise DataError(
            f"{path}: cannot be read ({(problem.strerror or str(problem)).lower()}); expected a file"
        ) from None
    except (UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"{path}: not a table that can be read ({problem}); save it as CSV UTF-8") from None
    known: dict[tuple[str, str], Fix] = {}
    for fix in fixes:
        first = known.setdefault((fix.digest, fix.given), fix)
        if (first.decision, first.new) != (fix.decision, fix.new):
            raise DataError(
                f"{fix.where}: {_said(fix)} for {fix.image}, but {first.where.rpartition(': ')[2]} says "
                f"{_said(first)}; remove one of the two"
            )
    return list(known.values())


def write_fixes(path: Path, fixes: Iterable[Fix]) -> None:
    """Write a file that ``read_fixes`` reads."""
    write_csv(path, COLUMNS, ([getattr(fix, name) for name in COLUMNS] for fix in fixes))


def _header_problem(header: Sequence[str]) -> str:
    for mark, marks in ((";", "semicolons"), ("\t", "tabs")):
        if sorted(",".join(header).split(mark)) == sorted(COLUMNS):
            return f"separated by {marks}"
    missing = [name for name in COLUMNS if name not in header]
    return f"{quoted(','.join(header))}, without {', '.join(missing)}" if missing else quoted(",".join(header))


def _read(header: Sequence[str], cells: Sequence[str], where: str) -> Fix:
    if len(cells) != len(COLUMNS):
        raise DataError(
            f"{where}: {counted(len(cells), 'cell')}, expected {len(COLUMNS)}; a text with a comma stands in quotes"
        )
    found = dict(zip(header, cells, strict=True))
    decision, new = found["decision"], found["new"]
    if not DIGEST.fullmatch(found["digest"].lower()):
        raise DataError(
            f"{where}: the digest {quoted(found['digest'])} is not 32 hexadecimal digits; copy it from the "
            "files.csv of the preprocessed images, or remove the line"
        )
    if decision not in DECISIONS:
        meant = did_you_mean(MEANT.get(decision.lower(), decision), DECISIONS)
        raise DataError(f"{where}: unknown decision {quoted(decision)}; {meant}")
    if decision == "move" and new not in SPLITS:
        raise DataError(f"{where}: unknown split {quoted(new)} in column new; {did_you_mean(new, SPLITS)}")
    if decision in ("keep", "drop") and new:
        raise DataError(f"{where}: {decision} takes nothing in column new, found {quoted(new)}; empty it")
    if decision == "relabel" and new == found["given"]:
        raise DataError(f"{where}: relabel to {quoted(new)}, which was given; keep says that a label is right")
    digest = found["digest"].lower()
    return Fix(digest, found["file"], found["given"], decision, new, found["who"], found["when"], where)


def _said(fix: Fix) -> str:
    return f"{fix.decision} {fix.new}".strip()


def apply_fixes(
    fixes: Sequence[Fix], decoded: DecodedDataset, rows: dict[str, Ints]
) -> tuple[DecodedDataset, dict[str, Ints], dict[Decision, int]]:
    """Apply fixes to the images and their splits ``rows``; what is given stays as it is.

    Identical images of one label all get the fix. Returns the images with their new labels, the new rows of each split,
    in ascending order, and the number of images of each decision; those that a move leaves in their split are kept.

    Raises DataError if no image has a digest, none of those has the label ``given``, a class is unknown, a class has no
    train image left or a split none at all, or a move divides a group.
    """
    counts = dict.fromkeys(DECISIONS, 0)
    if not fixes:
        return decoded, rows, counts
    found = _find(fixes, decoded)
    labels, before = decoded.labels.copy(), np.full(len(decoded.labels), LEFT_OUT)
    for split, name in enumerate(SPLITS):
        before[rows[name]] = split
    splits = before.copy()
    for fix, images in zip(fixes, found, strict=True):
        here = int((before[images] == SPLITS.index(fix.new)).sum()) if fix.decision == "move" else 0
        counts[fix.decision] += len(images) - here
        counts["keep"] += here
        if fix.decision == "drop":
            splits[images] = LEFT_OUT
        elif fix.decision == "relabel":
            labels[images] = decoded.classes.index(fix.new)
        elif fix.decision == "move":
            splits[images] = SPLITS.index(fix.new)
    _refuse_emptied(fixes, found, decoded, before, labels, splits)
    _refuse_cut_groups(fixes, found, decoded, splits)
    moved = {name: np.flatnonzero(splits == split) for split, name in enumerate(SPLITS)}
    return replace(decoded, labels=labels), moved, counts


def describe(counts: dict[Decision, int]) -> str:
    """The number of images of each decision, in words."""
    first, *others = [(decision, count) for decision, count in counts.items() if count]
    return ", ".join([f"{counted(first[1], 'image')} {DONE[first[0]]}", *(f"{n:,} {DONE[each]}" for each, n in others)])


def _find(fixes: Sequence[Fix], decoded: DecodedDataset) -> list[Ints]:
    """The rows of the images that each fix is about. Raises DataError."""
    wanted = from_hex([fix.digest for fix in fixes])
    assert wanted is not None, "they were checked when they were read"
    keys, contents = number(wanted, _contents(decoded))
    order = np.argsort(contents, kind="stable")
    begins, ends = (np.searchsorted(contents, keys, side, sorter=order) for side in ("left", "right"))
    copies = [order[begin:end] for begin, end in zip(begins, ends, strict=True)]
    if lost := [fix for fix, images in zip(fixes, copies, strict=True) if not len(images)]:
        which = "the images of all lines were" if len(lost) == len(fixes) > 1 else "it was"
        more = f" (and {counted(len(lost) - 1, 'more line')})" if len(lost) > 1 else ""
        raise DataError(
            f"{lost[0].where}: no image has the content that {lost[0].image} had{more}; {which} changed or removed, or "
            "another dataset is set: bring it back, or remove the line"
        )
    numbers = {name: label for label, name in enumerate(decoded.classes)}
    found = []
    for fix, images in zip(fixes, copies, strict=True):
        if fix.decision == "relabel" and fix.new not in numbers:
            raise DataError(f"{fix.where}: unknown class {quoted(fix.new)}; {did_you_mean(fix.new, numbers)}")
        found.append(images[decoded.labels[images] == numbers.get(fix.given, -1)])
        if not len(found[-1]):
            now = decoded.classes[decoded.labels[images[0]]]
            raise DataError(
                f"{fix.where}: {fix.image} is labeled {now!r} now, and not {quoted(fix.given)} as when it was decided; "
                "remove the line" + (", which says the same" if now == fix.new else ", or decide again")
            )
    return found


def _contents(decoded: DecodedDataset) -> Digests:
    """The digest of each image, as files.csv has it."""
    if decoded.digests is not None:
        return decoded.digests
    parts = gather(decoded.images, np.arange(len(decoded.images)))
    return stack(content_digest(image.data) for pixels in parts for image in pixels)


def _refuse_emptied(
    fixes: Sequence[Fix], found: Sequence[Ints], decoded: DecodedDataset, before: Ints, labels: Ints, after: Ints
) -> None:
    """Refuse that a class loses its last train image, or a split its last image.

    ``before`` and ``after`` [N] are indices of splits, ``labels`` the new ones.
    """
    in_train = np.bincount(labels[after == SPLITS.index("train")], minlength=len(decoded.classes))
    emptied = [
        (f"class {name!r}", "train image" if (after[labels == label] != LEFT_OUT).any() else "image", members)
        for label, name in enumerate(decoded.classes)
        if (members := (decoded.labels == label) & (before == SPLITS.index("train"))).any() and not in_train[label]
    ]
    emptied += [
        (f"split {name}", "image", members)
        for split, name in enumerate(SPLITS)
        if (members := before == split).any() and not (after == split).any()
    ]
    for name, what, members in emptied:
        takers = [fix for fix, images in zip(fixes, found, strict=True) if members[images].any()]
        more = f" and {counted(len(takers) - 1, 'more line')}" if len(takers) > 1 else ""
        raise DataError(f"{takers[0].where}{more}: {name} has no {what} left; remove one of its lines, or add images")


def _refuse_cut_groups(fixes: Sequence[Fix], found: Sequence[Ints], decoded: DecodedDataset, after: Ints) -> None:
    if decoded.groups is None:
        return
    for fix, images in zip(fixes, found, strict=True):
        if fix.decision != "move":
            continue
        members = np.isin(decoded.groups, decoded.groups[images]) & (after != LEFT_OUT)
        if len(np.unique(after[members])) > 1:
            raise DataError(
                f"{fix.where}: {fix.image} is one of {members.sum():,} images of a group, which would come to several "
                "splits by the move; move all of them, or remove the line"
            )
