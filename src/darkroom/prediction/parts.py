"""The answers for each shard in a file of its own: what an interrupted command leaves to the next one."""

import fcntl
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkroom import __version__
from darkroom.errors import DataError, counted, first_line
from darkroom.prediction.bulk import BatchPredictions, answer_all
from darkroom.prediction.shards import Picture, Shard
from darkroom.utils.console import messages
from darkroom.utils.files import atomic_file, digest, read_json, write_json

if TYPE_CHECKING:
    from darkroom.prediction.predictor import Predictor

SUFFIX = ".parts"
ABOUT = "about.json"
LOCK = "lock"
ENDING = ".arrow"
FLAGS = ("inverted", "unlike_training", "perhaps_negative")


@dataclass(frozen=True, eq=False)
class Part:
    """A shard whose answers belong in the file ``path``."""

    shard: Shard
    path: Path

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.shard)


@contextmanager
def open_parts(output: Path, identity: dict[str, Any]) -> Iterator[Path]:
    """The directory of parts beside ``output``, which is removed if the block succeeds, and else kept for the next one.

    ``identity`` is what the answers depend on beside the pictures, as JSON. Raises DataError if the parts there are
    those of another one, or if another process is making them.
    """
    place = output.with_name(output.name + SUFFIX)
    about = json.loads(json.dumps({"darkroom": __version__} | identity))  # as it will be read
    _check(place, about)
    place.mkdir(parents=True, exist_ok=True)
    with (place / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{place}: another `darkroom predict` with this --output is running") from None
        write_json(place / ABOUT, about)
        is_done = False
        try:
            yield place
            is_done = True
        finally:
            if is_done or not any(place.glob(f"*{ENDING}")):
                shutil.rmtree(place)


def _check(place: Path, about: dict[str, Any]) -> None:
    """Refuse what is at ``place`` unless it holds parts of the same answers."""
    if not place.exists():
        return
    remedy = "remove it, or give another --output"
    if not place.is_dir() or (any(place.iterdir()) and not (place / LOCK).exists()):
        raise DataError(f"{place}: was not made by `darkroom predict`; {remedy}")
    if not (place / ABOUT).exists():  # it was killed before it had any
        return
    found = read_json(place / ABOUT, error=DataError, made_by="darkroom predict")
    for key, value in about.items():
        if found.get(key) != value:
            values = f" ({found.get(key)}, now {value})" if isinstance(value, str) else ""
            raise DataError(f"{place}: answers of an interrupted command with another {key}{values}; {remedy}")


def answer_in_parts(
    place: Path, shards: Iterable[Shard], classes: Sequence[str], answer: Callable[[Iterator[Part]], None]
) -> Iterator[BatchPredictions]:
    """The answers for ``shards``, in their order, once ``answer`` has written the parts that ``place`` lacks."""
    paths: list[Path] = []
    before: set[Path] = set(place.glob(f"*{ENDING}"))

    def missing() -> Iterator[Part]:
        known = set(before)
        for shard in shards:
            paths.append(place / f"{digest(shard.identity())[:32]}{ENDING}")
            if paths[-1] not in known:
                known.add(paths[-1])
                yield Part(shard, paths[-1])

    answer(missing())
    if found := len(before.intersection(paths)):
        messages.print(f"{place}: {found:,} of {counted(len(paths), 'shard')} had been answered")
    for path in paths:
        yield from read(path, classes)


def answer_here(
    predictor: "Predictor", parts: Iterable[Part], *, invert: bool | None, report: Callable[[int], None]
) -> None:
    """Write ``parts``, on all cores of this machine."""
    done = 0
    for part, batches in groupby(answer_all(predictor, parts, invert=invert), itemgetter(0)):
        with atomic_file(part.path) as partial:
            done += write(str(partial), (answers for _, answers in batches), predictor.classes)
        report(done)


def write(target: Any, batches: Iterable[BatchPredictions], classes: Sequence[str]) -> int:
    """Write ``batches`` to ``target``, a path or a stream of pyarrow. Returns the number of pictures."""
    import pyarrow as pa  # which MLflow brings

    pictures = 0
    probabilities = pa.list_(pa.float64(), len(classes))
    names = [("file", pa.binary()), ("inside", pa.binary())]  # as bytes: the name of a file need not be text
    flags = [(name, pa.bool_()) for name in FLAGS]
    members = pa.list_(pa.bool_(), len(classes))
    schema = pa.schema([*names, ("probabilities", probabilities), *flags, ("error", pa.string()), ("members", members)])
    with pa.ipc.new_stream(target, schema) as written:
        for batch in batches:
            columns = [
                [picture.file.encode("utf-8", "surrogateescape") for picture in batch.pictures],
                [picture.inside.encode("utf-8", "surrogateescape") for picture in batch.pictures],
                pa.FixedSizeListArray.from_arrays(pa.array(batch.probabilities.ravel()), len(classes)),
                batch.inverted,
                batch.unlike_training,
                batch.perhaps_negative,
                batch.errors,
                [None] * len(batch.pictures) if batch.members is None else list(batch.members),
            ]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            written.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
            pictures += len(batch.pictures)
    return pictures


def read(path: Path, classes: Sequence[str]) -> Iterator[BatchPredictions]:
    """The batches that ``write`` has written. Raises DataError if the file is damaged."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as opened, pa.ipc.open_stream(opened) as batches:
            for batch in batches:
                files, inside = (
                    [name.decode("utf-8", "surrogateescape") for name in batch[column].to_pylist()]
                    for column in ("file", "inside")
                )
                inverted, unlike, negative = (batch[name].to_numpy(zero_copy_only=False) for name in FLAGS)
                probabilities = batch["probabilities"].flatten().to_numpy().reshape(-1, len(classes))
                pictures = [Picture(*names) for names in zip(files, inside, strict=True)]
                errors = batch["error"].to_pylist()
                sets = batch["members"].to_pylist()
                members = None if None in sets else np.array(sets, bool).reshape(-1, len(classes))
                yield BatchPredictions(pictures, probabilities, inverted, unlike, negative, errors, members)
    except (pa.ArrowInvalid, OSError) as problem:
        raise DataError(f"{path}: damaged ({first_line(problem)}); remove it and run the command again") from None
