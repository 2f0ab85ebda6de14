"""Take the labels that people gave: pictures join a folder's train split, or are discarded."""

import csv
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from darkroom.config.addresses import is_address
from darkroom.config.settings import Dataset
from darkroom.data.cache import DatasetCard
from darkroom.datasets.archives import list_images
from darkroom.datasets.inbox import FOLDER, Accepted, read_accepted, table_of, write_accepted
from darkroom.errors import DataError, did_you_mean, quoted
from darkroom.inbox.store import SUFFIX, Kept
from darkroom.utils.files import atomic_file

# Pictures alike a decided one are removed with it.
Word = Literal["label", "discard", "alike"]
DIGEST = re.compile("[0-9a-f]{32}")
COLUMNS = ("digest", "decision", "label", "who", "when")


@dataclass(frozen=True)
class Decision:
    """What somebody decided about a picture of the inbox: its class, empty if it is discarded or alike another one."""

    digest: str
    decision: Word
    label: str
    who: str
    when: str
    where: str


@dataclass(frozen=True)
class Outcome:
    """How many pictures ``joined`` the dataset, were ``relabeled`` in it, and ``withdrawn`` from it.

    ``discarded`` were removed from the inbox only, as were those ``alike`` a decided one, and ``left`` are still there.
    """

    joined: int
    relabeled: int
    withdrawn: int
    discarded: int
    alike: int
    left: int

    @property
    def changes_dataset(self) -> bool:
        return bool(self.joined or self.relabeled or self.withdrawn)


def check_dataset(dataset: Dataset) -> Path:
    """The directory of the dataset that pictures can join.

    Raises DataError for one that they cannot join, such as a published dataset, or an archive.
    """
    path, source = dataset.path, Path(dataset.path).expanduser()
    if dataset.name != "folder":
        raise DataError(
            f"dataset.name: {dataset.name} is a published dataset, and stays as it is; to train on pictures of the "
            "inbox, put its images into a directory, one folder for each class, and run `darkroom init DIRECTORY`"
        )
    if is_address(path):
        raise DataError(f"dataset.path: {path} is not on this machine; copy it to a directory, and set that")
    if source.is_file():
        raise DataError(f"dataset.path: {path} is an archive; unpack it, and set the directory")
    if not source.is_dir():
        raise DataError(f"dataset.path: {path} not found; set the directory with the images of the dataset")
    folder, table = source / FOLDER, table_of(source)
    if folder.exists() and not table.is_file():
        raise DataError(f"{folder}: the dataset has a folder of this name, which is for the inbox; rename it")
    if not table.is_file():
        first = list_images(source)[0][0]
        if not (source / first.partition("/")[0]).exists():
            raise DataError(f"dataset.path: {path} holds archives; unpack them first")
    return source


def check_depth(card: DatasetCard) -> None:
    """Raises DataError if the images of the dataset are such as pictures of an inbox are not: of more than 8 bits."""
    if card.decoder.get("value_range"):
        raise DataError(
            "dataset.path: its images have more than 8 bits a value, and an inbox holds what the model saw, 8 bits; to "
            "train on its pictures too, convert the images to 8 bits"
        )


def read_decisions(path: Path) -> list[Decision]:
    """The lines of the file that the page saves. Raises DataError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as opened:
            lines = csv.reader(opened, strict=True)
            header = tuple(next(lines, ()))
            if header != COLUMNS:
                found = quoted(",".join(header))
                raise DataError(
                    f"{path}: line 1: the columns are {found}; expected the {','.join(COLUMNS)} that the page of "
                    "`darkroom inbox` saves"
                )
            return [_read(cells, f"{path}: line {lines.line_num}") for cells in lines if cells]
    except OSError as problem:
        raise DataError(
            f"{path}: cannot be read ({(problem.strerror or str(problem)).lower()}); expected the file that the page "
            "of `darkroom inbox` saves"
        ) from None
    except (UnicodeDecodeError, csv.Error) as problem:
        raise DataError(
            f"{path}: not a table that can be read ({problem}); expected the file that the page of `darkroom inbox` "
            "saves, in UTF-8"
        ) from None


def _read(cells: Sequence[str], where: str) -> Decision:
    if len(cells) != len(COLUMNS):
        raise DataError(f"{where}: {len(cells)} cells, expected {len(COLUMNS)}; a text with a comma stands in quotes")
    digest, decision, label, who, when = cells
    words: dict[str, Word] = {word: word for word in get_args(Word)}
    if decision not in words:
        raise DataError(f"{where}: unknown decision {quoted(decision)}; {did_you_mean(decision, list(words))}")
    if (decision == "label") != bool(label):
        raise DataError(f"{where}: {decision} takes {'no' if label else 'a'} label, found {quoted(label)}")
    return Decision(digest, words[decision], label, who, when, where)


def accept(decisions: Sequence[Decision], inbox: Mapping[str, Kept], source: Path, classes: Sequence[str]) -> Outcome:
    """Move labeled pictures from the ``inbox``, by digest, into the dataset in ``source``; remove discarded ones.

    A decision about a picture that has joined already changes its label there, or removes it. A call that was
    interrupted is finished by the next one with the same decisions. Raises DataError, before anything is changed, for a
    label of a picture that is not there, for two decisions about one, and for an unknown class.
    """
    table = table_of(source)
    lines = {line.file: line for line in read_accepted(table)} if table.is_file() else {}
    _check(decisions, inbox, lines, classes)
    if not table.is_file() and any(each.label for each in decisions):
        # Without a table the folder would be taken for a class.
        write_accepted(table, [])
    after, relabeled = dict(lines), 0
    for each in decisions:
        file, kept = _file_of(each), inbox.get(each.digest)
        if each.decision == "discard":
            after.pop(file, None)
        elif each.decision == "alike":
            continue
        elif file not in lines:
            with atomic_file(table.parent / file) as partial:
                partial.write_bytes(inbox[each.digest].content())
            after[file] = _accepted(each, inbox[each.digest])
        elif lines[file].label != each.label:
            relabeled += 1
            again = _accepted(each, kept) if kept else lines[file]
            after[file] = replace(again, label=each.label, who=each.who, when=each.when)
    if after != lines:
        write_accepted(table, list(after.values()))
    for each in decisions:
        if each.decision == "discard":
            (table.parent / _file_of(each)).unlink(missing_ok=True)
        if each.digest in inbox:
            inbox[each.digest].file.unlink(missing_ok=True)
    decided = [each for each in decisions if each.digest in inbox]
    return Outcome(
        joined=len(after.keys() - lines.keys()),
        relabeled=relabeled,
        withdrawn=len(lines.keys() - after.keys()),
        discarded=sum(each.decision == "discard" and _file_of(each) not in lines for each in decided),
        alike=sum(each.decision == "alike" for each in decided),
        left=len(inbox) - len(decided),
    )


def _file_of(decision: Decision) -> str:
    """The name of the picture in the dataset."""
    return f"{decision.digest}{SUFFIX}"


def _check(
    decisions: Sequence[Decision], inbox: Mapping[str, Kept], joined: Container[str], classes: Sequence[str]
) -> None:
    seen: set[str] = set()
    for each in decisions:
        if each.digest in seen:
            raise DataError(f"{each.where}: a second decision about {quoted(each.digest)}; remove one of the two")
        seen.add(each.digest)
        # What is to be discarded may be gone: an interrupted call has done it.
        may_be_gone = not each.label and DIGEST.fullmatch(each.digest)
        if each.digest not in inbox and _file_of(each) not in joined and not may_be_gone:
            raise DataError(
                f"{each.where}: no picture {quoted(each.digest)} in the inbox; it was discarded or removed: remove "
                "the line"
            )
        if each.label and each.label not in classes:
            raise DataError(f"{each.where}: unknown class {quoted(each.label)}; {did_you_mean(each.label, classes)}")


def _accepted(decision: Decision, kept: Kept) -> Accepted:
    record = kept.record
    return Accepted(
        file=_file_of(decision),
        label=decision.label,
        model=record.model,
        version=record.version,
        answer=record.answer,
        probability=f"{record.probability:.4f}",
        reason=record.reason,
        received=record.received,
        who=decision.who,
        when=decision.when,
    )
