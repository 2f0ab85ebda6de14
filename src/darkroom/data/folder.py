"""A person's own images: one sub-folder per class, with or without train, val and test above them."""

import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.data.archives import pack
from darkroom.data.images import BrokenImageError, Channels, Header, decode, read_header
from darkroom.data.mapped import allocate
from darkroom.data.source import Decoded, Report
from darkroom.errors import DataError
from darkroom.settings import Dataset, Preprocess

PACKED = "images.zip"
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
DEFAULT_SIZE = (64, 64)
CHUNK = 256
# Below this many images starting worker processes costs more than they save.
PARALLEL_FROM = 2048


@dataclass(frozen=True)
class Folder:
    """A directory or archive of images."""

    about: str

    def download(self, settings: Dataset, directory: Path, report: Report) -> None:
        pack(Path(settings.path).expanduser(), directory / PACKED, lambda count: report("pack images", count, 0))

    def decode(self, directory: Path, settings: Preprocess, scratch: Path, report: Report) -> Decoded:
        archive = directory / PACKED
        try:
            with zipfile.ZipFile(archive) as packed:
                names = sorted(packed.namelist())
        except (OSError, zipfile.BadZipFile):
            raise _damaged(archive) from None
        labels, splits, classes = arrange(names)
        broken: dict[str, str] = {}

        headers: list[Header | None] = []
        for part in _each_chunk(archive, names, _read_headers, report, "read sizes"):
            headers += part
        known = {name: header for name, header in zip(names, headers, strict=True) if header}
        channels = settings.channels or _common_channels(known)
        size = settings.image_size or _common_size(known)

        path = scratch / "images.bin"
        shape = (len(names), channels, *size)
        images = allocate(path, shape)
        work = partial(_decode_into, path, shape)
        for failures in _each_chunk(archive, names, work, report, "decode"):
            broken |= failures
        readable = np.array([name not in broken for name in names], dtype=bool)
        if broken:
            images = _drop_rows(images, readable)
        sizes = Counter(f"{header.width}x{header.height}" for name, header in known.items() if name not in broken)
        return Decoded(
            images,
            labels[readable],
            splits[readable],
            classes,
            names=tuple(name for name in names if name not in broken),
            sizes=dict(sizes.most_common()),
            broken=broken,
        )


def arrange(names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.str_], tuple[str, ...]]:
    """Labels [N], splits [N] ("" where none is given) and class names, from the images' paths.

    A single directory around everything is looked through. Raises DataError if an image lies outside
    the class folders, there are fewer than two classes, there is no train split among given splits, or
    a split has a class that train lacks.
    """
    paths = [PurePosixPath(name).parts for name in names]
    while len({parts[0] for parts in paths}) == 1 and all(len(parts) > 2 for parts in paths):
        if paths[0][0].lower() in SPLIT_NAMES:
            break
        paths = [parts[1:] for parts in paths]
    tops = {parts[0].lower() for parts in paths if len(parts) > 1}
    has_splits = bool(tops) and tops <= SPLIT_NAMES.keys()
    depth = 3 if has_splits else 2
    for name, parts in zip(names, paths, strict=True):
        if len(parts) < depth:
            place = "a class folder below its split" if has_splits else "a class folder"
            raise DataError(f"{name}: lies outside {place}; expected one sub-folder per class with images in it")
    splits = np.array([SPLIT_NAMES[parts[0].lower()] if has_splits else "" for parts in paths], dtype="<U5")
    owners = np.array([parts[depth - 2] for parts in paths])
    in_train = (splits == "train") if has_splits else np.ones(len(owners), dtype=bool)
    classes = sorted(set(owners[in_train].tolist()))
    if not classes:
        raise DataError(f"splits {', '.join(sorted(tops))} are there, but no train; put the images to learn from there")
    strangers = sorted(set(owners.tolist()) - set(classes))
    if strangers:
        raise DataError(f"class {strangers[0]!r} has images to test on, but none in train; add some or remove it")
    if len(classes) < 2:
        raise DataError(f"one class only ({classes[0]!r}); a classifier needs two at least: one sub-folder per class")
    return np.searchsorted(classes, owners).astype(np.int64), splits, tuple(classes)


def _damaged(archive: Path) -> DataError:
    return DataError(f"{archive}: missing or damaged; run `darkroom download` again")


def _common_channels(headers: dict[str, Header]) -> Channels:
    examples: dict[Channels, str] = {}
    for name, header in headers.items():
        examples.setdefault(header.channels, name)
    if len(examples) == 2:
        raise DataError(
            f"grey and colour images are mixed ({examples[1]} is grey, {examples[3]} is colour); "
            "set preprocess.channels to 1 or 3 to make them all the same"
        )
    return next(iter(examples), 3)


def _common_size(headers: dict[str, Header]) -> tuple[int, int]:
    sizes = {(header.height, header.width) for header in headers.values()}
    return sizes.pop() if len(sizes) == 1 and max(max(sizes)) <= 512 else DEFAULT_SIZE


def _drop_rows(images: NDArray[np.uint8], keep: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Move the rows to keep together, in place, a chunk at a time, and return just them."""
    rows = np.flatnonzero(keep)
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        images[start : start + len(chunk)] = images[chunk]
    return images[: len(rows)]


# --- what runs in the worker processes -------------------------------------------------------------

_archive: zipfile.ZipFile | None = None


def _open_archive(path: Path) -> None:
    """Once per process: reading the index of a large archive costs as much as decoding hundreds of images."""
    global _archive
    _archive = zipfile.ZipFile(path)


def _content(name: str) -> bytes:
    assert _archive is not None, "opened by the pool's initialiser"
    try:
        return _archive.read(name)
    except zipfile.BadZipFile:  # its checksum is wrong: damage to our archive, not a broken image
        raise _damaged(Path(str(_archive.filename))) from None


def _read_headers(start: int, names: Sequence[str]) -> list[Header | None]:
    headers: list[Header | None] = []
    for name in names:
        try:
            headers.append(read_header(_content(name)))
        except BrokenImageError:
            headers.append(None)
    return headers


def _decode_into(path: Path, shape: tuple[Any, ...], start: int, names: Sequence[str]) -> dict[str, str]:
    """Decode images into the rows from ``start``. Returns the reason for each that cannot be decoded."""
    images = np.memmap(path, dtype=np.uint8, mode="r+", shape=shape)
    broken = {}
    for row, name in enumerate(names, start):
        try:
            images[row] = decode(_content(name), shape[1], shape[2:])
        except BrokenImageError as problem:
            broken[name] = str(problem)
    return broken


def _each_chunk(archive: Path, names: Sequence[str], work: Any, report: Report, what: str) -> Iterator[Any]:
    """``work(start, names)`` for each chunk, in order, in as many processes as pay."""
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    starts = range(0, len(names), CHUNK)
    done = 0
    if len(names) < PARALLEL_FROM:
        _open_archive(archive)
        results: Iterator[Any] = map(work, starts, chunks)
        pool = None
    else:
        # Spawned, not forked: a fork of a process with threads can hang.
        workers = os.cpu_count() or 1
        pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_open_archive, initargs=(archive,))
        results = pool.map(work, starts, chunks)
    try:
        for chunk, result in zip(chunks, results, strict=True):
            done += len(chunk)
            report(what, done, len(names))
            yield result
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)
