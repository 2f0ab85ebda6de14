"""The preprocessed dataset on disk: the shards of each split, and a card that describes them.

Images are written some megabytes at a time and read back mapped, so neither needs the memory for a whole split.
"""

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, with_config

from darkroom.data.digests import Digests, as_hex, from_hex
from darkroom.data.shards import FORMAT_VERSION, MADE_BY, MAX_BYTES, Shard, write_split
from darkroom.errors import CacheError
from darkroom.images.decoder import Decoder
from darkroom.utils.csv_files import read_csv, write_csv
from darkroom.utils.files import EXACT, checked, digest, read_as, read_json, write_json

# Of what the fingerprint is taken of: the same images have the same one, however they are divided into files.
FINGERPRINT_VERSION = 1
SPLITS = ("train", "val", "test")
CARD = "dataset.json"
NAMES = "files.csv"
LEAKED = "leaked.json"
GROUPS = "groups.npy"
COLUMNS = ("split", "row", "file", "class", "digest")
# They follow where the sizes of the files are known.
SIZE_COLUMNS = ("height", "width")
Row = Annotated[int, Field(strict=True, ge=0)]
Size = Annotated[int, Field(ge=1, le=1 << 20)]


@with_config(EXACT)
@dataclass(frozen=True)
class DatasetCard:
    """The content of dataset.json: everything that a later stage needs to know before it reads an image.

    ``shape`` is (channels, height, width); ``mean`` and ``std`` are of the train split, per channel, of
    pixels scaled to 0 to 1; ``sizes`` counts the images of each split; ``fingerprint`` is the SHA-256
    over pixels, labels, classes and the settings that made them; ``decoder`` is the JSON form of the Decoder that made
    the pixels, empty if it was not recorded. ``shards`` are the files of each split, in the order of its images.
    """

    name: str
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    shape: tuple[Size, Size, Size]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    sizes: dict[str, Annotated[int, Field(ge=0)]]
    settings: dict[str, dict[str, Any]]
    fingerprint: str
    format_version: int = FORMAT_VERSION
    decoder: dict[str, Any] = field(default_factory=dict)
    shards: dict[str, tuple[Shard, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read the card of a cache. Raises CacheError."""
        path = directory / CARD
        card = read_as(cls, path, FORMAT_VERSION, error=CacheError, made_by=MADE_BY)
        if lacking := [split for split in SPLITS if split not in card.sizes]:
            raise CacheError(f"{path}: damaged (sizes: no {lacking[0]}); run `{MADE_BY}` again")
        for split in SPLITS:
            if sum(shard.images for shard in card.shards.get(split, ())) != card.sizes[split]:
                raise CacheError(f"{path}: damaged (shards: not of {split}'s images); run `{MADE_BY}` again")
        return card

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.shape[0]:
            raise ValueError("mean and std: not of as many channels as shape")


def write(
    directory: Path,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    rows: dict[str, NDArray[np.int64]],
    *,
    name: str,
    classes: Sequence[str],
    names: Sequence[str],
    settings: dict[str, Any],
    decoder: Decoder | None = None,
    attributes: Mapping[str, NDArray[np.object_]] | None = None,
    digests: Digests | None = None,
    original_sizes: NDArray[np.int64] | None = None,
    shard_bytes: int = MAX_BYTES,
) -> DatasetCard:
    """Write a cache into the empty ``directory``: for each split, the given ``rows`` of ``images`` [N, C, H, W].

    ``names`` are the images' files, if they have any, ``attributes`` the further columns of their list, ``digests``
    [N, 16] those of the files' bytes, without which those of the pixels are taken, and ``original_sizes``
    int64 [N, 2] the heights and widths of the files. Files of images have at most ``shard_bytes``. Returns the card,
    which is written last: a directory without it is no cache.
    """
    written = {
        split: write_split(directory, split, images, labels, rows[split], digest=digests is None, max_bytes=shard_bytes)
        for split in SPLITS
    }
    contents = hashlib.sha256(b"".join(written[split].checksum for split in SPLITS))
    of_split = {split: written[split].digests if digests is None else digests[rows[split]] for split in SPLITS}
    mean, std = _mean_and_std(written["train"].counts)
    card = DatasetCard(
        name=name,
        classes=tuple(classes),
        shape=(images.shape[1], images.shape[2], images.shape[3]),
        mean=mean,
        std=std,
        sizes={split: len(rows[split]) for split in SPLITS},
        settings=settings,
        fingerprint="",
        decoder=decoder.as_json() if decoder else {},
        shards={split: written[split].shards for split in SPLITS},
    )
    described = asdict(card) | {"format_version": FINGERPRINT_VERSION}
    del described["shards"]
    card = replace(card, fingerprint=digest({"contents": contents.hexdigest(), "card": described}))
    own = {
        "file": names or [""] * len(labels),
        "class": [classes[label] for label in labels.tolist()],
    }
    known = {} if original_sizes is None else dict(zip(SIZE_COLUMNS, original_sizes.T.tolist(), strict=True))
    _write_files(directory / NAMES, own, of_split, known, attributes or {}, rows)
    write_json(directory / CARD, asdict(card))
    return card


def _write_files(
    path: Path,
    own: Mapping[str, Sequence[str]],
    digests: Mapping[str, Digests],
    sizes: Mapping[str, Sequence[int]],
    attributes: Mapping[str, NDArray[np.object_]],
    rows: dict[str, NDArray[np.int64]],
) -> None:
    reserved = (*COLUMNS, *SIZE_COLUMNS)
    further = [f"{name} (table)" if name in reserved else name for name in attributes]
    columns: list[Any] = [*own.values(), *sizes.values(), *attributes.values()]

    def lines() -> Iterator[list[object]]:
        for split in SPLITS:
            for position, (row, content) in enumerate(zip(rows[split].tolist(), as_hex(digests[split]), strict=True)):
                file, label, *others = (values[row] for values in columns)
                yield [split, position, file, label, content, *others]

    write_csv(path, [*COLUMNS, *sizes, *further], lines())


def read_names(directory: Path, split: str) -> list[str]:
    """The file of each image of a split; empty for datasets whose images are not files. Raises CacheError."""
    found = _read_column(directory, split, "file")
    return found if any(found) else []


def read_digests(directory: Path, split: str) -> Digests | None:
    """The content digest of each image of a split, uint8 [N, 16]; None if the cache has no list of its files.

    Raises CacheError.
    """
    return from_hex(_read_column(directory, split, "digest"))


def read_labels(directory: Path, card: DatasetCard, split: str) -> NDArray[np.int64]:
    """The labels of a split, int64 [N], by the list of its files. Raises CacheError."""
    numbers = {name: number for number, name in enumerate(card.classes)}
    named = _read_column(directory, split, "class")
    if len(named) != card.sizes[split]:
        raise CacheError(f"{directory / NAMES}: not found; run `dvc pull {directory / NAMES}`, or `{MADE_BY}`")
    return np.array([numbers.get(name, -1) for name in named], dtype=np.int64)


def read_sizes(directory: Path, split: str) -> NDArray[np.int64] | None:
    """The (height, width) that each image of a split has in its file, as it is shown: int64 [N, 2].

    None if the images have no files, or the cache was written before their sizes were. Raises CacheError.
    """
    path = directory / NAMES
    # A table's own columns of these names are further to the right, or in an older cache.
    if _columns(path)[len(COLUMNS) :][: len(SIZE_COLUMNS)] != SIZE_COLUMNS:
        return None
    sides = [_read_column(directory, split, column) for column in SIZE_COLUMNS]
    try:
        return np.array(sides, dtype=np.int64).T
    except ValueError as problem:
        raise _damaged_list(path, problem) from None


def read_attributes(directory: Path, split: str) -> dict[str, list[str]]:
    """The further columns of the table of labels, by their names: the cell of each image of a split.

    Empty for images without a table. Raises CacheError.
    """
    further = _columns(directory / NAMES)[len(COLUMNS) :]
    if further[: len(SIZE_COLUMNS)] == SIZE_COLUMNS:
        further = further[len(SIZE_COLUMNS) :]
    return {name: _read_column(directory, split, name) for name in further}


def write_leaked(directory: Path, leaked: Mapping[str, NDArray[np.bool_]]) -> None:
    """Write which images of each split show a picture that an earlier split has too: bool [N] by split."""
    write_json(directory / LEAKED, {split: np.flatnonzero(marks).tolist() for split, marks in leaked.items()})


def read_leaked(directory: Path, split: str, count: int) -> NDArray[np.bool_]:
    """Which of the ``count`` images of a split show a picture that an earlier split has too, bool [count].

    None does, as far as is known, in a cache that was written before they were looked for. Raises CacheError.
    """
    path = directory / LEAKED
    marks = np.zeros(count, bool)
    if path.exists():
        found = read_json(path, error=CacheError, made_by=MADE_BY)
        rows = checked(dict[str, list[Row]], found, path, error=CacheError, made_by=MADE_BY).get(split)
        if rows is None or max(rows, default=0) >= count:
            raise CacheError(f"{path}: not of the {count:,} images of {split}; run `{MADE_BY}` again")
        marks[rows] = True
    return marks


def _columns(path: Path) -> tuple[str, ...]:
    if not path.exists():
        return ()
    try:
        return tuple(next(read_csv(path), ()))
    except (OSError, ValueError, csv.Error) as problem:
        raise _damaged_list(path, problem) from None


def write_groups(directory: Path, groups: NDArray[np.int64]) -> None:
    """Write the group of each image of train, val and test in this order: int64 [N]."""
    np.save(directory / GROUPS, groups)


def read_groups(directory: Path, count: int) -> NDArray[np.int64]:
    """The group of each of the ``count`` images of all splits, int64 [count]: those of one show the same thing.

    In a cache that was written before they were recorded, each image is one by itself. Raises CacheError.
    """
    path = directory / GROUPS
    if not path.exists():
        return np.arange(count)
    try:
        groups: NDArray[np.int64] = np.load(path)
    except (OSError, ValueError, EOFError) as problem:
        raise CacheError(f"{path}: damaged ({problem}); run `{MADE_BY}` again") from None
    if groups.shape != (count,) or groups.dtype != np.int64:
        raise CacheError(f"{path}: not of {count:,} images; run `{MADE_BY}` again")
    return groups


def _read_column(directory: Path, split: str, column: str) -> list[str]:
    path = directory / NAMES
    if not path.exists():
        return []
    try:
        found = [row.get(column) or "" for row in read_csv(path) if row["split"] == split]
    except (OSError, ValueError, KeyError, csv.Error) as problem:
        raise _damaged_list(path, problem) from None
    if len(found) != DatasetCard.read(directory).sizes[split]:
        raise _damaged_list(path, f"{len(found):,} {split} images")
    return found


def _damaged_list(path: Path, problem: Exception | str) -> CacheError:
    return CacheError(f"{path}: damaged, or of another dataset than {CARD} ({problem}); run `{MADE_BY}` again")


def _mean_and_std(counts: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel, of pixels / 255, from how often each value occurs: exact, and the same in any order."""
    values = np.arange(256) / 255
    weights = counts / counts.sum(axis=1, keepdims=True)
    mean = weights @ values
    std = np.sqrt(np.einsum("cv,cv->c", weights, (values - mean[:, None]) ** 2))
    # A channel without any contrast is left as it is.
    return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())
