"""A person's own images: one sub-folder per class, with or without train, val and test above them."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.data.archives import pack
from darkroom.data.decoding import decode_into, processes, read_headers, sample_values
from darkroom.data.depth import Sampled
from darkroom.data.images import Decoder
from darkroom.data.mapped import allocate, release
from darkroom.data.packed import read_index
from darkroom.data.source import Decoded, Report
from darkroom.data.splits import assign_rows
from darkroom.data.survey import common_channels, common_size, count_sizes, notes
from darkroom.data.value_range import find_depth, values_of_each
from darkroom.errors import DataError
from darkroom.settings import Dataset, Preprocess

PACKED = "images.zip"
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
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
        names, records = read_index(archive)
        labels, splits, classes = arrange(names)
        starts = range(0, len(names), CHUNK)
        chunks = [records[start : start + CHUNK] for start in starts]
        workers = (os.cpu_count() or 1) if len(names) >= PARALLEL_FROM else 0
        with processes(workers) as spread:
            parts = spread(partial(read_headers, archive), chunks)
            headers = np.concatenate(list(_reported(parts, partial(report, "read sizes"), len(names))))
            deep = np.flatnonzero(headers["is_deep"])
            sampled: list[Sampled | None] = []
            train = np.empty(0, dtype=np.int64)
            if len(deep):
                count = values_of_each(len(deep))
                some = [records[deep[start : start + CHUNK]] for start in range(0, len(deep), CHUNK)]
                taken = spread(partial(sample_values, archive, count, settings.bands), some)
                sampled = list(chain.from_iterable(_reported(taken, partial(report, "read values"), len(deep))))
                is_readable = headers["channels"] > 0
                is_readable[deep[[each is None for each in sampled]]] = False
                rows = np.flatnonzero(is_readable)
                train = rows[assign_rows(labels[rows], splits[rows], classes, settings)["train"]]
            depth = find_depth(names, headers, dict(zip(deep.tolist(), sampled, strict=True)), train, settings)
            decoder = Decoder(
                settings.channels or common_channels(headers, names, settings.bands),
                settings.image_size or common_size(headers),
                settings.fit,
                depth.value_range,
                depth.nodata,
                settings.bands,
            )

            path = scratch / "images.bin"
            images = allocate(path, (len(names), decoder.channels, *decoder.size))
            failures = spread(partial(decode_into, archive, path, decoder), starts, chunks)
            reasons: dict[int, str] = {}
            for part in _reported(failures, partial(report, "decode"), len(names)):
                reasons |= part
        broken = {names[row]: reason for row, reason in reasons.items()}
        if broken:
            whole = np.delete(np.arange(len(names)), list(reasons))
            images = _keep_rows(images, whole)
            headers, labels, splits = headers[whole], labels[whole], splits[whole]
            names = [names[row] for row in whole]
        return Decoded(
            images,
            labels,
            splits,
            classes,
            tuple(names),
            count_sizes(headers),
            broken,
            decoder,
            (*depth.notes, *notes(headers, decoder)),
        )


def arrange(names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.str_], tuple[str, ...]]:
    """Labels [N], splits [N] ("" where none is given) and class names, from the images' paths.

    A single directory around everything is looked through. Raises DataError if an image lies outside
    the class folders, there are fewer than two classes, there is no train split among given splits, or
    a split has a class that train lacks.
    """
    depth = _count_wrappers(names)
    tops = {parts[depth].lower() for parts in _parts(names) if len(parts) > depth + 1}
    has_splits = bool(tops) and tops <= SPLIT_NAMES.keys()
    depth += has_splits
    splits = np.full(len(names), "", dtype="<U5")
    owners: dict[str, int] = {}
    numbers = np.empty(len(names), dtype=np.int64)
    for row, parts in enumerate(_parts(names)):
        if len(parts) < depth + 2:
            place = "a class folder below its split" if has_splits else "a class folder"
            raise DataError(f"{names[row]}: lies outside {place}; expected one sub-folder per class with images in it")
        if has_splits:
            splits[row] = SPLIT_NAMES[parts[depth - 1].lower()]
        numbers[row] = owners.setdefault(parts[depth], len(owners))
    in_train = set(np.unique(numbers[splits == "train"] if has_splits else numbers).tolist())
    classes = sorted(owner for owner, number in owners.items() if number in in_train)
    if not classes:
        raise DataError(f"splits {', '.join(sorted(tops))} are there, but no train; put the images to learn from there")
    strangers = sorted(owners.keys() - set(classes))
    if strangers:
        raise DataError(f"class {strangers[0]!r} has images to test on, but none in train; add some or remove it")
    if len(classes) < 2:
        raise DataError(f"one class only ({classes[0]!r}); a classifier needs two at least: one sub-folder per class")
    return np.searchsorted(classes, list(owners))[numbers], splits, tuple(classes)


def _parts(names: Sequence[str]) -> Iterator[list[str]]:
    """The parts of each name, one at a time: those of a million names would take more memory than all else."""
    return (name.split("/") for name in names)


def _count_wrappers(names: Sequence[str]) -> int:
    """The number of directories around everything, above the classes and the splits."""
    # What the first and the last name in their order share, all share.
    shared = PurePosixPath(os.path.commonpath([min(names), max(names)])).parts
    shallowest = min(name.count("/") for name in names)
    outer = shared[: max(0, shallowest - 1)]
    return next((depth for depth, part in enumerate(outer) if part.lower() in SPLIT_NAMES), len(outer))


def _keep_rows(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Move the rows to keep together, in place, a chunk at a time, and return just them."""
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        images[start : start + len(chunk)] = images[chunk]
        release(images)
    return images[: len(rows)]


def _reported(results: Iterator[Any], report: Callable[[int, int], None], total: int) -> Iterator[Any]:
    """The results of each chunk, the progress reported."""
    for number, result in enumerate(results, 1):
        report(min(number * CHUNK, total), total)
        yield result
