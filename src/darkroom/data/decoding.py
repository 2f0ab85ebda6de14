"""What worker processes do with packed images: read their headers, decode them into a file.

A worker imports this module and what it needs, so that is kept small.
"""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.data.images import BrokenImageError, Channels, decode, read_header
from darkroom.data.packed import Records, read_members

Map = Callable[..., Iterator[Any]]


@contextmanager
def processes(count: int) -> Iterator[Map]:
    """``map``, spread over ``count`` processes; over none, it works in this one."""
    if not count:
        yield map
        return
    # Spawned, not forked: a fork of a process with threads can hang.
    pool = ProcessPoolExecutor(count, get_context("spawn"), initializer=_leave_interruptions_to_the_parent)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interruptions_to_the_parent() -> None:
    """Ctrl-C reaches every process of the terminal; the parent lets the workers end their chunk and stops them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def read_headers(archive: Path, records: Records) -> NDArray[np.int32]:
    """Width, height and channels [N, 3] of the images; zeros where a header cannot be read. Raises DataError."""
    headers = np.zeros((len(records), 3), dtype=np.int32)
    for row, content in enumerate(read_members(archive, records)):
        try:
            header = read_header(content)
        except BrokenImageError:
            continue
        headers[row] = header.width, header.height, header.channels
    return headers


def decode_into(
    archive: Path, target: Path, channels: Channels, size: tuple[int, int], start: int, records: Records
) -> dict[int, str]:
    """Decode images to the rows from ``start`` of ``target``, a file of uint8 [N, channels, height, width].

    Returns the reason for each row whose image cannot be decoded. Raises DataError.
    """
    broken = {}
    image_bytes = channels * size[0] * size[1]
    with target.open("rb+", buffering=1 << 20) as opened:
        opened.seek(start * image_bytes)
        for row, content in enumerate(read_members(archive, records), start):
            try:
                opened.write(decode(content, channels, size).data)
            except BrokenImageError as problem:
                broken[row] = str(problem)
                opened.seek(image_bytes, os.SEEK_CUR)
    return broken
