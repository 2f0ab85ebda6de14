"""A person's own images: one sub-folder per class, with or without train, val and test above them."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.data.archives import pack
from darkroom.data.decoding import decode_into, processes, read_headers, sample_values
from darkroom.data.depth import Sampled
from darkroom.data.images import Decoder
from darkroom.data.inventory import MAX_EXAMPLES, Inventory
from darkroom.data.layout import UNLABELLED, arrange
from darkroom.data.mapped import allocate, release
from darkroom.data.packed import read_index
from darkroom.data.source import Decoded, Report
from darkroom.data.splits import assign_rows
from darkroom.data.survey import common_channels, common_size, count_sizes, notes
from darkroom.data.value_range import find_depth, values_of_each
from darkroom.settings import Dataset, Preprocess

PACKED = "images.zip"
CHUNK = 256
# Below this many images starting worker processes costs more than they save.
PARALLEL_FROM = 2048


@dataclass(frozen=True)
class Folder:
    """A directory or archive of images."""

    about: str

    def download(self, settings: Dataset, directory: Path, report: Report) -> str:
        source = Path(settings.path).expanduser()
        count = partial(report, "pack images")
        return str(pack(source, directory / PACKED, lambda done: count(done, 0), encoding=settings.encoding))

    def decode(self, directory: Path, settings: Preprocess, scratch: Path, report: Report) -> Decoded:
        archive = directory / PACKED
        names, records = read_index(archive)
        inventory = Inventory.read(directory, len(names))
        labels, splits, classes = arrange(names, inventory.folders)
        unlabelled = np.flatnonzero(labels == UNLABELLED)
        examples = [names[row] for row in unlabelled[:MAX_EXAMPLES]]
        left_out = inventory.figures() | {"unlabelled": {"count": len(unlabelled), "examples": examples}}
        if len(unlabelled):
            kept = np.flatnonzero(labels != UNLABELLED)
            names = [names[row] for row in kept]
            records, labels, splits = records[kept], labels[kept], splits[kept]
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
            decoder=decoder,
            notes=(*depth.notes, *notes(headers, decoder)),
            left_out=left_out,
        )


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
