"""Worker processes for packed images: they read headers, and decode the images into a file.

A worker imports this module and what it needs, so that is kept small.
"""

import hashlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import astuple
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import features

from darkroom.data.digests import Digests, content_digest, stack
from darkroom.datasets.packed import Records, read_members
from darkroom.images import decoder as decoder_module
from darkroom.images.decoder import BrokenImageError, Decoder, choose_bands, load_deep, open_image, read_header
from darkroom.images.depth import Sampled, sample
from darkroom.utils.process_id import end_with_parent

Map = Callable[..., Iterator[Any]]
# The rows of images that cannot be decoded, and why.
Reasons = list[tuple[int, str]]
# Pillow's, in libraries that it may share with the system.
CODECS = ("jpg", "jpg_2000", "zlib", "libtiff", "webp", "avif")


@contextmanager
def processes(count: int) -> Iterator[Map]:
    """``map`` over ``count`` processes; with none, in this process."""
    if not count:
        yield map
        return
    # Spawned, not forked: a fork of a process with threads can hang.
    pool = ProcessPoolExecutor(count, get_context("spawn"), initializer=set_up_worker)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def set_up_worker() -> None:
    """Leave interruptions to the parent, which ends its workers. End when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal
    end_with_parent()


# What the header of each image contains; all zeros if it cannot be read.
HEADER = np.dtype(
    [("width", "<i4"), ("height", "<i4"), ("channels", "u1"), ("is_deep", "?"), ("has_pages", "?")], align=True
)
Headers = NDArray[np.void]


def read_headers(archive: Path, records: Records) -> tuple[Headers, Digests]:
    """The HEADER [N] of the images, and the digest [N, 16] of each file's content. Raises DataError."""
    digests: list[bytes] = []

    def contents() -> Iterator[bytes]:
        for content in read_members(archive, records):
            digests.append(content_digest(content))
            yield content

    return headers_of(contents(), len(records)), stack(digests)


def headers_of(contents: Iterable[bytes], count: int) -> Headers:
    """The HEADER [count] of that many images, from their contents."""
    headers = np.zeros(count, dtype=HEADER)
    for row, content in enumerate(contents):
        with suppress(BrokenImageError):
            headers[row] = astuple(read_header(content))
    return headers


def sample_values(archive: Path, count: int, bands: Sequence[int] | None, records: Records) -> list[Sampled | None]:
    """About ``count`` values of each image of more than 8 bits; None where one cannot be decoded. Raises DataError."""
    found: list[Sampled | None] = []
    for content in read_members(archive, records):
        try:
            with open_image(content) as image:
                chosen = choose_bands(image, bands)
                found.append(sample(load_deep(image, content, bands), count, chosen))
        except BrokenImageError:
            found.append(None)
    return found


def decode_into(archive: Path, target: Path, decoder: Decoder, start: int, records: Records) -> Reasons:
    """Decode images to the rows from ``start`` of ``target``, a file of uint8 [N, channels, height, width].

    Those that cannot be decoded keep what is there. The rows are on the disk when it returns. Raises DataError.
    """
    broken = []
    image_bytes = decoder.channels * decoder.size[0] * decoder.size[1]
    with target.open("rb+", buffering=1 << 20) as opened:
        opened.seek(start * image_bytes)
        for row, content in enumerate(read_members(archive, records), start):
            try:
                opened.write(decoder(content).data)
            except BrokenImageError as problem:
                broken.append((row, str(problem)))
                opened.seek(image_bytes, os.SEEK_CUR)
        opened.flush()
        os.fsync(opened.fileno())
    return broken


def decode_apart(archive: Path, decoder: Decoder, start: int, records: Records) -> tuple[NDArray[np.uint8], Reasons]:
    """Decode images, the rows from ``start`` of a dataset, to uint8 [n, channels, height, width].

    Those that cannot be decoded are zeros. Raises DataError.
    """
    broken = []
    pixels = np.zeros((len(records), decoder.channels, *decoder.size), np.uint8)
    for place, content in enumerate(read_members(archive, records)):
        try:
            pixels[place] = decoder(content)
        except BrokenImageError as problem:
            broken.append((start + place, str(problem)))
    return pixels, broken


def versions() -> dict[str, str]:
    """What the pixels and headers depend on besides the file: versions, and the digest of the decoder's code."""
    code = hashlib.sha256()
    for path in sorted(Path(decoder_module.__file__).parent.glob("*.py")):
        code.update(path.read_bytes())
    codecs = {name: str(features.version(name)) for name in CODECS if features.check(name)}
    return {"darkroom's decoder": code.hexdigest()[:12], "numpy": np.__version__, "Pillow": PIL.__version__, **codecs}
