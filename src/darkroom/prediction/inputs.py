"""The pictures that the arguments of `darkroom predict` name: files, directories, archives, patterns and lists."""

import os
import zipfile
from collections.abc import Iterator, Sequence
from glob import iglob
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, NoReturn

from darkroom.datasets.archives import is_image_file, leads_back_up, read_images
from darkroom.datasets.names import is_hidden
from darkroom.datasets.signatures import has_image_suffix
from darkroom.datasets.tars import is_tar
from darkroom.errors import DataError

LIST_MARK = "@"
PATTERN_MARKS = frozenset("*?[")
NAMED = 5  # files that a message lists by name, at most


class Picture(NamedTuple):
    """One picture: its name ``file``, its path ``inside`` the argument, and its ``content``.

    Without ``content``, it is read from ``file``. ``inside`` has ``/`` between its folders.
    """

    file: str
    inside: str
    content: bytes | None = None


class InputImages:
    """All pictures of the arguments, read lazily, so that a million take no memory.

    ``total`` is their number, 0 if it is unknown until they are read. ``left_out`` counts the files in directories that
    are not images and not hidden; ``left_out_names`` are the first of them.

    An argument is a file, a directory, a zip or tar archive, a pattern such as ``photos/**/*.jpg``, or ``@list.txt``:
    a text file with a path in each line, relative to the working directory. ``encoding`` is that of names in an archive
    that does not declare one. Raises DataError if a file of the arguments or of a list does not exist.
    """

    def __init__(self, arguments: Sequence[str], *, encoding: str | None = None) -> None:
        self._sources: list[_Files | _Directory | _Archive] = []
        for source in (source for argument in arguments for source in _find(argument, encoding)):
            if not isinstance(source, str):
                self._sources.append(source)
            elif self._sources and isinstance(self._sources[-1], _Files):
                self._sources[-1].paths.append(source)
            else:
                self._sources.append(_Files([source]))
        directories = [source for source in self._sources if isinstance(source, _Directory)]
        self.left_out = sum(directory.left_out for directory in directories)
        self.left_out_names = [name for directory in directories for name in directory.left_out_names][:NAMED]
        counts = [source.count for source in self._sources]
        self.total = sum(counts) if all(counts) else 0

    def __iter__(self) -> Iterator[Picture]:
        for source in self._sources:
            yield from source


class _Files:
    """Files by name; ``inside`` is the part of their paths that differs."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    @property
    def count(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Picture]:
        shared = common_directory(self.paths)
        for path in self.paths:
            yield Picture(path, path[len(shared) :].replace(os.sep, "/"))


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

    def __iter__(self) -> Iterator[Picture]:
        start = str(self.path / "_")[:-1]  # to make a Path of each file would take longer than to look at its name
        for name in _walk(self.path):
            if is_image_file(self.path, name):
                yield Picture(start + name.replace("/", os.sep), name)


class _Archive:
    """Every image in a zip or tar archive, in its order."""

    count = 0  # a compressed tar must be unpacked to count them

    def __init__(self, path: Path, encoding: str | None) -> None:
        self.path, self.encoding = path, encoding

    def __iter__(self) -> Iterator[Picture]:
        for name, content in read_images(self.path, encoding=self.encoding):
            yield Picture(f"{self.path}/{name}", name, content)


def common_directory(paths: Sequence[str]) -> str:
    """The directories, with the last separator, that all paths begin with; "" if they share none."""
    # What the first and the last in their order share, all share; a beginning of the very text, which Path may change.
    first, last = (path.split(os.sep)[:-1] for path in (min(paths), max(paths)))  # noqa: PTH206
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(part + os.sep for part, _ in shared)


def _find(argument: str, encoding: str | None) -> Iterator["str | _Directory | _Archive"]:
    path = Path(argument)
    if path.is_dir():
        yield _Directory(path)
    elif path.is_file():
        yield _Archive(path, encoding) if _is_archive(path) else argument
    elif argument.startswith(LIST_MARK):
        yield from _read_list(Path(argument.removeprefix(LIST_MARK)))
    elif PATTERN_MARKS & set(argument):
        matches = iglob(argument, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute pattern
        found = sorted(
            name for name in matches if Path(name).is_file() and is_image_file(Path(name).parent, Path(name).name)
        )
        if not found:
            raise DataError(f"{argument}: no image matches this pattern")
        yield from found
    else:
        raise DataError(f"{argument}: no such file")


def _is_archive(path: Path) -> bool:
    return not has_image_suffix(path.name) and (zipfile.is_zipfile(path) or is_tar(path))


def _read_list(path: Path) -> Iterator[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as problem:
        _refuse_unreadable(problem)
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text in UTF-8; expected a path in each line") from None
    names = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not names:
        raise DataError(f"{path}: empty; expected a path in each line")
    for number, name in names:
        if not Path(name).is_file():
            raise DataError(f"{path}: line {number}: {name}: no such file, seen from the working directory")
        yield name


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
