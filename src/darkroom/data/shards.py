"""The files that hold the images of a split: shards, each a safetensors file with a digest of its own.

The format is documented at https://huggingface.co/docs/safetensors.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError, safe_open

from darkroom.data.digests import Digests, content_digest, stack
from darkroom.data.memmap import MappedImages, gather, reserve
from darkroom.errors import CacheError

if TYPE_CHECKING:
    from hashlib import _Hash

FORMAT_VERSION = 2
MAX_BYTES = 1 << 30
# Room for the header of a shard, which needs some hundred bytes.
HEADER_BYTES = 4096
UNKNOWN = "0" * 64
MADE_BY = "darkroom preprocess"


@dataclass(frozen=True)
class Shard:
    """One file of a split: how many images are in it, and the SHA-256 of its labels and pixels."""

    file: Annotated[str, Field(min_length=1)]
    images: Annotated[int, Field(ge=0)]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class WrittenSplit:
    """What is known of a split once its ``shards`` are written.

    ``checksum`` is the SHA-256 of all its labels, then all its pixels; ``counts`` int64 [C, 256] how often each channel
    has each value; ``digests`` [N, 16] those of each image's pixels, empty if they were not asked for.
    """

    shards: tuple[Shard, ...]
    checksum: bytes
    counts: NDArray[np.int64]
    digests: Digests


class Spread:
    """Which image of a split of ``count`` is where in its ``shards``, counted through all of them.

    ``rows`` int64 [count] are the images in the order of the shards, and ``places`` int64 [count] says where each image
    is. They are shuffled, so that each shard has some of all kinds, however the split is sorted.
    """

    def __init__(self, count: int, shards: int) -> None:
        if shards == 1:
            self.rows = self.places = np.arange(count)
            return
        # This generator alone gives the same numbers in every version of NumPy.
        self.rows = np.random.RandomState(0).permutation(count)
        self.places = np.empty_like(self.rows)
        self.places[self.rows] = np.arange(count)


def write_split(
    directory: Path,
    split: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    *,
    digest: bool,
    max_bytes: int = MAX_BYTES,
) -> WrittenSplit:
    """Write the ``rows`` of ``images`` [N, C, H, W] and ``labels`` [N] as shards of at most ``max_bytes``.

    A shard has at least one image. With ``digest`` that of each image's pixels is taken.
    """
    each = max(1, (max_bytes - HEADER_BYTES) // (math.prod(images.shape[1:]) + labels.itemsize))
    starts = range(0, max(1, len(rows)), each)
    spread = Spread(len(rows), len(starts))
    parts = [rows[spread.rows[start : start + each]] for start in starts]
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    digests: list[bytes] = []
    shards = []
    for number, part in enumerate(parts, 1):
        name = f"{split}.safetensors" if len(parts) == 1 else f"{split}-{number:05}-of-{len(parts):05}.safetensors"
        content = _of_labels(labels[part])
        for pixels in _write_shard(directory / name, images, labels[part], part):
            content.update(pixels.data)
            if digest:
                digests += [content_digest(image.data) for image in pixels]
            for channel, count in enumerate(counts):
                count += np.bincount(pixels[:, channel].ravel(), minlength=256)
        stamp(directory / name, content.hexdigest())
        shards.append(Shard(name, len(part), content.hexdigest()))
    checksum = bytes.fromhex(shards[0].digest) if len(shards) == 1 else _checksum(images, labels, rows)
    in_order = stack(digests)[spread.places] if digest else stack(digests)
    return WrittenSplit(tuple(shards), checksum, counts, in_order)


def _of_labels(labels: NDArray[np.int64]) -> "_Hash":
    return hashlib.sha256(labels.astype("<i8").tobytes())


def _checksum(images: NDArray[np.uint8], labels: NDArray[np.int64], rows: NDArray[np.int64]) -> bytes:
    """The SHA-256 of a split as if it were one shard."""
    content = _of_labels(labels[rows])
    for pixels in gather(images, rows):
        content.update(pixels.data)
    return content.digest()


def _write_shard(
    path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], rows: NDArray[np.int64]
) -> Iterator[NDArray[np.uint8]]:
    """Write one shard, without its digest, and yield its pixels as they are written."""
    shape = (len(rows), *images.shape[1:])
    header = shard_header(shape, len(rows), {"digest": UNKNOWN})
    reserve(path, len(header) + labels.nbytes + math.prod(shape))
    with path.open("rb+") as opened:
        opened.write(header + labels.astype("<i8").tobytes())
        for pixels in gather(images, rows):
            opened.write(pixels.data)
            yield pixels


def shard_header(
    images: tuple[int, ...], labels: int, metadata: Mapping[str, str], dtype: Literal["U8", "F32"] = "U8"
) -> bytes:
    """How a shard begins: ``labels`` int64 and images of this shape and ``dtype`` follow."""
    split = labels * 8
    end = split + math.prod(images) * (4 if dtype == "F32" else 1)
    text = json.dumps(
        {
            "__metadata__": {"format_version": str(FORMAT_VERSION), **metadata},
            "labels": {"dtype": "I64", "shape": [labels], "data_offsets": [0, split]},
            "images": {"dtype": dtype, "shape": list(images), "data_offsets": [split, end]},
        }
    )
    # Padded with spaces, as the format allows, so that the data begins at a multiple of 64 bytes.
    padded = text.encode() + b" " * (-(len(text) + 8) % 64)
    return len(padded).to_bytes(8, "little") + padded


def stamp(path: Path, digest: str) -> None:
    """Put the digest, 64 characters, into the header of a shard that was written without it."""
    with path.open("r+b") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = opened.read(size)
        opened.seek(8)
        opened.write(header.replace(UNKNOWN.encode(), digest.encode(), 1))


def images_offset(path: Path) -> int:
    """Where the images begin in a shard, in bytes."""
    with path.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
    return 8 + size + int(header["images"]["data_offsets"][0])


def content_of(path: Path) -> str:
    """The SHA-256 of the labels and pixels of a shard, as 64 hexadecimal digits."""
    with path.open("rb") as opened:
        opened.seek(8 + int.from_bytes(opened.read(8), "little"))
        return hashlib.file_digest(opened, "sha256").hexdigest()


def shard_bytes(shard: Shard, shape: tuple[int, ...]) -> int:
    """How large the file of a shard of images of ``shape`` is at most."""
    return HEADER_BYTES + shard.images * (math.prod(shape) + 8)


def read_shard(directory: Path, shard: Shard, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], MappedImages]:
    """The labels [n] of a shard, and its images of ``shape`` (channels, height, width), mapped. Raises CacheError."""
    path = directory / shard.file
    expected = (shard.images, *shape)
    try:
        with safe_open(path, framework="np") as opened:
            metadata = opened.metadata() or {}
            labels = opened.get_tensor("labels")
            found = tuple(opened.get_slice("images").get_shape())
    except (OSError, SafetensorError, UnicodeDecodeError) as problem:
        reason = "no such file" if isinstance(problem, FileNotFoundError) else problem
        raise CacheError(
            f"{path}: missing or damaged ({reason}); run `{MADE_BY}` again, or `dvc pull {path.parent}` if it was "
            "pushed"
        ) from None
    if metadata.get("format_version") != str(FORMAT_VERSION):
        raise CacheError(f"{path}: not in format version {FORMAT_VERSION}; run `{MADE_BY}` again")
    if metadata.get("digest") != shard.digest or found != expected or labels.shape != expected[:1]:
        raise CacheError(f"{path}: does not belong to {directory / 'dataset.json'}; run `{MADE_BY}` again")
    return labels, MappedImages(path, expected, images_offset(path))


def check_content(path: Path, shard: Shard) -> None:
    """Compare the content of a shard with its digest. Raises CacheError if it differs."""
    if content_of(path) != shard.digest:
        raise CacheError(f"{path}: changed since it was written (its SHA-256 differs); run `{MADE_BY}` again")
