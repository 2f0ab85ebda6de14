"""The pictures that the arguments of `darkroom predict` name."""

import os
import zipfile
from collections.abc import Iterator, Sequence
from glob import iglob
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

from darkroom.config.addresses import is_address
from darkroom.datasets.archives import is_image_file, leads_back_up
from darkroom.datasets.names import is_hidden
from darkroom.datasets.signatures import has_image_suffix
from darkroom.datasets.source import ReportProgress
from darkroom.datasets.tars import is_tar
from darkroom.errors import DataError
from darkroom.prediction.addresses import Addresses, check, find, is_single, look_up_all
from darkroom.prediction.shards import NAMED, Archive, Files, Picture, Shard, common_directory, in_shards

LIST_MARK = "@"
PATTERN_MARKS = frozenset("*?[")


class InputImages:
    """All pictures of the arguments, read lazily, so that a million on this machine take no memory.

    ``total`` is their number, 0 if it is unknown until they are read. ``left_out`` counts the files in directories that
    are not images and not hidden; ``left_out_names`` are the first of them.

    An argument is a file, a directory, a zip or tar archive, a pattern such as ``photos/**/*.jpg``, or ``@list.txt``:
    a text file with a path in each line, relative to the working directory. It may also be the address of a picture, of
    an archive or of a prefix, or a pattern of addresses; a line of a list may be one of the first two. ``encoding`` is
    that of names in an archive that does not declare one. Raises DataError if what is named does not exist.
    """

    def __init__(
        self, arguments: Sequence[str], *, encoding: str | None = None, report: ReportProgress = lambda *progress: None
    ) -> None:
        found: Iterator[Any] = (each for argument in arguments for each in _find(argument, encoding, report))
        self._sources: list[_Source] = []
        # Neighbors that are single files come together, those of each store by themselves.
        for kind, group in groupby(found, _kind):
            if kind is None:
                self._sources += group
            elif kind:
                self._sources.append(look_up_all(list(group), encoding, report))
            else:
                self._sources.append(_Files(list(group)))
        places = [source for source in self._sources if isinstance(source, _Directory | Addresses)]
        self.left_out = sum(place.left_out for place in places)
        self.left_out_names = [name for place in places for name in place.left_out_names][:NAMED]
        # A compressed tar must be unpacked to count what is in it.
        counts = [0 if isinstance(source, Archive) else source.count for source in self._sources]
        self.total = sum(counts) if all(counts) else 0

    def __iter__(self) -> Iterator[Picture]:
        for shard in self.shards():
            yield from shard

    def shards(self) -> Iterator[Shard]:
        """The pictures in parts: each archive is one, and the files of a directory or a list are cut."""
        for source in self._sources:
            yield from [source] if isinstance(source, Archive) else source.shards()


class _Files:
    """Files by name; ``inside`` is the part of their paths that differs."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    @property
    def count(self) -> int:
        return len(self.paths)

    def shards(self) -> Iterator[Shard]:
        shared = len(common_directory(self.paths))
        pictures = (Picture(path, path[shared:].replace(os.sep, "/")) for path in self.paths)
        return map(Files, in_shards(pictures))


class _Directory:
    """Every image below a directory, a folder after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = self.left_out = 0
        self.left_out_names: list[str] = []
        for name in _walk(path):
            if is_image_file(path, name):
                self.count += 1
            elif not is_hidden(name):
                self.left_out += 1
                if self.left_out <= NAMED:
                    self.left_out_names.append(str(path / name))
        if not self.count:
            raise DataError(f"{path}: no images found in this directory")

    def shards(self) -> Iterator[Shard]:
        return map(Files, in_shards(self._pictures()))

    def _pictures(self) -> Iterator[Picture]:
        start = str(self.path / "_")[:-1]  # to make a Path of each file would take longer than to look at its name
        for name in _walk(self.path):
            if is_image_file(self.path, name):
                yield Picture(start + name.replace("/", os.sep), name)


_Source = _Files | _Directory | Archive | Addresses


def _find(argument: str, encoding: str | None, report: ReportProgress) -> Iterator[str | _Source]:
    """The sources that an argument names, or the single files: their paths and addresses."""
    if is_address(argument):
        check(argument)
        yield argument if is_single(argument) else find(argument, encoding, report)
        return
    path = Path(argument)
    if path.is_dir():
        yield _Directory(path)
    elif path.is_file():
        yield _file(argument, encoding)
    elif argument.startswith(LIST_MARK):
        for name in _read_list(Path(argument.removeprefix(LIST_MARK))):
            yield name if is_address(name) else _file(name, encoding)
    elif PATTERN_MARKS & set(argument):
        matches = iglob(argument, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute pattern
        found = [_file(name, encoding) for name in sorted(matches) if Path(name).is_file()]
        chosen = [each for each in found if isinstance(each, Archive) or _is_image(Path(each))]
        if not chosen:
            raise DataError(f"{argument}: no image and no archive matches this pattern")
        yield from chosen
    else:
        raise DataError(f"{argument}: no such file")


def _kind(found: Any) -> str | None:
    """The scheme of an address, "" of a path; None of a source."""
    if not isinstance(found, str):
        return None
    return found.partition("://")[0].lower() if is_address(found) else ""


def _is_image(path: Path) -> bool:
    return is_image_file(path.parent, path.name)


def _file(name: str, encoding: str | None) -> str | Archive:
    path = Path(name)
    is_archive = not has_image_suffix(name) and (zipfile.is_zipfile(path) or is_tar(path))
    return Archive(path, encoding) if is_archive else name


def _read_list(path: Path) -> Iterator[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as problem:
        _refuse_unreadable(problem)
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text in UTF-8; expected a path in each line") from None
    names = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not names:
        raise DataError(f"{path}: empty; expected a path in each line")
    for number, name in names:
        if is_address(name):
            _check_line(path, number, name)
        elif not Path(name).is_file():
            raise DataError(f"{path}: line {number}: {name}: no such file, seen from the working directory")
        yield name


def _check_line(path: Path, number: int, address: str) -> None:
    try:
        check(address)
    except DataError as problem:
        raise DataError(f"{path}: line {number}: {problem}") from None
    if not is_single(address):
        raise DataError(f"{path}: line {number}: {address}: expected the address of an image or of an archive")


def _walk(top: Path) -> Iterator[str]:
    """The name of every file below ``top``, relative to it, in the order of their names within each folder."""
    for directory, folders, files in os.walk(top, followlinks=True, onerror=_refuse_unreadable):
        here = Path(directory)
        if leads_back_up(here, top):
            folders.clear()
            continue
        folders.sort()
        folder = "" if here == top else here.relative_to(top).as_posix() + "/"
        for file in sorted(files):
            yield folder + file


def _refuse_unreadable(problem: OSError) -> NoReturn:
    raise DataError(f"{problem.filename}: cannot be read ({(problem.strerror or str(problem)).lower()})") from None
