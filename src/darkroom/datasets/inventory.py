"""An inventory of a folder of images: every file is either packed or counted here."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import with_config

from darkroom.datasets.names import is_hidden, visible_folder
from darkroom.datasets.signatures import suffix
from darkroom.errors import DataError, counted
from darkroom.utils.files import EXACT, check_format, checked, read_json, write_json

LEFT_OUT = "left_out.json"
FORMAT_VERSION = 1
MAX_EXAMPLES = 20
MAX_KINDS = 50
MAX_NAMED = 5
MAX_FOLDERS = 10_000
HIDDEN = "hidden"
PLAIN = "without a suffix"
OTHER = "of other kinds"
# Without letters it is a number in a name, which may be another one in each.
REAL_SUFFIX = re.compile(r"\.(?=.*[a-z])\w{1,12}")


@with_config(EXACT)
@dataclass(frozen=True)
class Inventory:
    """The files of a source: ``images`` of the ``files`` were packed, all others are in ``left_out``.

    ``left_out`` counts them by suffix, "hidden" and "without a suffix", the most first. ``examples`` are some of
    their names. ``folders`` are the topmost folders, as they are named there, that have no image in them or below,
    with what they hold by suffix: nothing if they are empty.
    """

    files: int
    images: int
    left_out: dict[str, int]
    examples: list[str]
    folders: dict[str, dict[str, int]]

    def write(self, directory: Path) -> None:
        write_json(directory / LEFT_OUT, {"format_version": FORMAT_VERSION} | asdict(self))

    @classmethod
    def read(cls, directory: Path, images: int) -> Self:
        """Read the counts from when the ``images`` images in ``directory`` were packed. Raises DataError."""
        path, made_by = directory / LEFT_OUT, "darkroom download"
        found = read_json(path, error=DataError, made_by=made_by)
        check_format(found, FORMAT_VERSION, path, error=DataError, made_by=made_by)
        del found["format_version"]
        inventory = checked(cls, found, path, error=DataError, made_by=made_by)
        if inventory.images != images:
            raise DataError(f"{path}: describes other images than the archive beside it; run `{made_by}` again")
        return inventory

    def counts(self) -> dict[str, Any]:
        """For report.json."""
        return asdict(self)

    def __str__(self) -> str:
        """One line, such as "left out: 150 files (100 .txt, 50 hidden), such as cat/notes.txt"."""
        count = self.files - self.images
        example = f", such as {self.examples[0]}" if self.examples else ""
        return f"left out: {counted(count, 'file')} ({in_words(self.left_out)}){example}" if count else "left out: none"


def in_words(kinds: Mapping[str, int]) -> str:
    """Counts by suffix, such as "60 .txt, 2 hidden", the first few; "empty" for none."""
    named = [f"{count:,} {kind}" for kind, count in list(kinds.items())[:MAX_NAMED]]
    more = sum(list(kinds.values())[MAX_NAMED:])
    return ", ".join(named + [f"{more:,} {OTHER}"] * bool(more)) or "empty"


class Tally:
    """Counts the files of a source as they are read. Its size grows with the number of folders, not of files."""

    def __init__(self) -> None:
        self.images = 0
        self._left_out: Counter[str] = Counter()
        self._examples: list[str] = []
        self._with_images: set[str] = set()
        self._others: dict[str, Counter[str]] = {}

    def add_image(self, name: str) -> None:
        self.images += 1
        self._with_images.add(name.rpartition("/")[0])

    def add_folder(self, name: str) -> None:
        self._others.setdefault(name, Counter())

    def leave_out(self, name: str) -> None:
        """Count a file that is not an image, or is hidden."""
        ending = suffix(name)
        kind = HIDDEN if is_hidden(name) else ending if REAL_SUFFIX.fullmatch(ending) else PLAIN
        self._left_out[kind] += 1
        if kind != HIDDEN and len(self._examples) < MAX_EXAMPLES:
            self._examples.append(name)
        self._others.setdefault(visible_folder(name), Counter())[kind] += 1

    def close(self) -> Inventory:
        total = self._left_out.total()
        return Inventory(self.images + total, self.images, _most(self._left_out), self._examples, self._imageless())

    def _imageless(self) -> dict[str, dict[str, int]]:
        """The topmost folders without an image, those of the fewest parts first, and what they hold."""
        with_images = {""}
        for folder in self._with_images:
            while folder not in with_images:
                with_images.add(folder)
                folder = folder.rpartition("/")[0]
        found: dict[str, Counter[str]] = {}
        for folder, kinds in self._others.items():
            top = folder
            while top not in with_images and (above := top.rpartition("/")[0]) not in with_images:
                top = above
            if top not in with_images:
                found.setdefault(top, Counter()).update(kinds)
        names = sorted(found, key=lambda name: (name.count("/"), name))
        return {name: _most(found[name]) for name in names[:MAX_FOLDERS]}


def _most(kinds: Counter[str]) -> dict[str, int]:
    """The counts, the largest first; all beyond MAX_KINDS as one."""
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ordered[MAX_KINDS:])
    return dict(ordered[:MAX_KINDS]) | ({OTHER: rest} if rest else {})
