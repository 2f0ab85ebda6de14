"""The steps from packed files to pixels. Each is done a shard at a time, and what is finished survives a kill."""

import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.data.digests import DIGEST_BYTES, Digests, content_digest
from darkroom.data.memmap import release, reserve
from darkroom.datasets.decoding import (
    HEADER,
    Headers,
    Reasons,
    decode_apart,
    decode_into,
    read_headers,
    sample_values,
    versions,
)
from darkroom.datasets.journal import Journal
from darkroom.datasets.packed import Records
from darkroom.datasets.source import ReportProgress
from darkroom.datasets.workers import ATTEMPTS, LostShardError, Task, Workers
from darkroom.errors import DataError, counted
from darkroom.images.decoder import Decoder
from darkroom.images.depth import Sampled
from darkroom.utils.console import messages
from darkroom.utils.files import digest
from darkroom.utils.memory import killed_worker

# A shard has about so many bytes of files, or of the pixels that they become, and so many images at most.
SHARD_BYTES = 16 << 20
SHARD_IMAGES = 1024
# Images that are moved at once.
CHUNK = 256
# In the journal: the images that can be decoded are being moved together, and have been.
MOVING, MOVED = "moving", "moved"

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Steps:
    """Steps on the images ``names`` [N] in ``archive``, done by ``workers``; finished shards are kept in ``place``."""

    archive: Path
    names: Sequence[str]
    records: Records
    place: Path
    workers: Workers
    report: ReportProgress

    def read_headers(self) -> tuple[Headers, Digests]:
        """The HEADER [N] of the images, and the digest [N, 16] of each file. Raises DataError."""
        shards = self._divide(np.arange(len(self.names)))
        journal = self._journal("sizes", shards, _digest(self.records))

        def keep(_: Rows, found: tuple[Headers, Digests]) -> list[str]:
            return [_as_text(each) for each in found]

        task = partial(read_headers, self.archive)
        self._finish("read sizes", journal, task, shards, [(self.records[rows],) for rows in shards], keep)
        headers, digests = (b"".join(map(b64decode, each)) for each in zip(*journal.by_shard(), strict=True))
        return np.frombuffer(headers, HEADER), np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)

    def sample_values(
        self, rows: Rows, digests: Digests, count: int, bands: Sequence[int] | None
    ) -> dict[int, Sampled | None]:
        """About ``count`` values of each of the images ``rows``, by row; None where one cannot be decoded.

        Raises DataError.
        """
        shards = self._divide(rows)
        journal = self._journal("values", shards, _digest(digests[rows]), count, bands)

        def keep(_: Rows, found: list[Sampled | None]) -> list[Any]:
            return [each and [_as_text(each.values), each.low, each.high, each.missing] for each in found]

        task = partial(sample_values, self.archive, count, bands)
        self._finish("read values", journal, task, shards, [(self.records[rows],) for rows in shards], keep)
        kept = [each for shard in journal.by_shard() for each in shard]
        found = [each and Sampled(np.frombuffer(b64decode(each[0]), np.float64), *each[1:]) for each in kept]
        return dict(zip(rows.tolist(), found, strict=True))

    def decode(self, decoder: Decoder, digests: Digests) -> tuple[NDArray[np.uint8], dict[int, str]]:
        """The n images that can be decoded, uint8 [n, channels, height, width] mapped from a file, in their order.

        The others' reasons come with them, by row. Raises DataError.
        """
        path, shape = self.place / "images.bin", (len(self.names), decoder.channels, *decoder.size)
        shards = self._divide(np.arange(len(self.names)), prod(shape[1:]))
        journal = self._journal("pixels", shards, _digest(digests), decoder.as_json())
        is_whole = path.exists() and path.stat().st_size == prod(shape)
        if not is_whole or not journal.results or (MOVING in journal.results) != (MOVED in journal.results):
            journal.clear()
            reserve(path, prod(shape))
        images = np.memmap(path, dtype=np.uint8, mode="r+", shape=shape)
        arguments = [(int(rows[0]), self.records[rows]) for rows in shards]
        if self.workers.are_elsewhere:
            apart = partial(decode_apart, self.archive, decoder)
            self._finish("decode", journal, apart, shards, arguments, partial(_write, path))
        else:
            into = partial(decode_into, self.archive, path, decoder)
            self._finish("decode", journal, into, shards, arguments, lambda _, reasons: reasons)
        reasons = {row: reason for shard in journal.by_shard() for row, reason in shard}
        if reasons and MOVED not in journal.results:
            with journal.open():
                journal.add(MOVING, None)
            _move_together(images, np.delete(np.arange(len(images)), list(reasons)))
            with journal.open():
                journal.add(MOVED, None)
        return images[: len(images) - len(reasons)], reasons

    def _divide(self, rows: Rows, image_bytes: int = 0) -> list[Rows]:
        """The rows of each shard. One has an image at least."""
        size = max(1, image_bytes, int(self.records["size"][rows].mean()))
        count = max(1, min(SHARD_IMAGES, SHARD_BYTES // size))
        return [rows[start : start + count] for start in range(0, len(rows), count)]

    def _journal(self, name: str, shards: Sequence[Rows], *depends_on: Any) -> Journal:
        return Journal(self.place / f"{name}.jsonl", digest([depends_on, len(shards[0]), versions()]))

    def _finish(
        self,
        what: str,
        journal: Journal,
        task: Task,
        shards: Sequence[Rows],
        arguments: Sequence[Sequence[Any]],
        keep: Callable[[Rows, Any], Any],
    ) -> None:
        """Do ``task`` for the shards that the journal lacks. It gets what ``keep`` makes of each result."""
        total, done = sum(map(len, shards)), sum(len(shards[shard]) for shard in journal.shards())
        if done:
            messages.print(f"{what}: resuming after {done:,} of {counted(total, 'image')}")
            self.report(what, done, total)
        missing = {shard: each for shard, each in enumerate(arguments) if shard not in journal.results}
        try:
            with journal.open():
                for shard, found in self.workers.run(task, missing):
                    journal.add(shard, keep(shards[shard], found))
                    done += len(shards[shard])
                    self.report(what, done, total)
        except LostShardError as problem:
            raise DataError(self._describe_lost(what, shards[problem.shard])) from None

    def _describe_lost(self, what: str, rows: Rows) -> str:
        first, last = self.names[rows[0]], self.names[rows[-1]]
        images = first if len(rows) == 1 else f"the {len(rows):,} images from {first} to {last}"
        return (
            f"{what}: {killed_worker()}, each of {ATTEMPTS} times that one worked on {images}; remove what is damaged, "
            "or lower preprocess.image_size, and run it again, which resumes"
        )


def _write(path: Path, rows: Rows, found: tuple[NDArray[np.uint8], Reasons]) -> Reasons:
    pixels, reasons = found
    with path.open("rb+") as opened:
        opened.seek(int(rows[0]) * pixels[0].nbytes)
        opened.write(pixels.data)
        opened.flush()
        os.fsync(opened.fileno())
    return reasons


def _move_together(images: np.memmap[Any, np.dtype[np.uint8]], rows: Rows) -> None:
    """Move ``rows`` to the first ones, in place, a chunk at a time."""
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        images[start : start + len(chunk)] = images[chunk]
        release(images)
    images.flush()


def _digest(values: NDArray[Any]) -> str:
    return content_digest(values.tobytes()).hex()


def _as_text(values: NDArray[Any]) -> str:
    return b64encode(values.tobytes()).decode()
