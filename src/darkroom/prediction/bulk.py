"""Run a model on any number of pictures in bounded memory: pictures are decoded while it runs on earlier batches.

A process that decodes imports this module, so it stays light.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, compress
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from darkroom.datasets.decoding import Map, processes
from darkroom.prediction.shards import Picture
from darkroom.serving.preprocessing import ModelInput, RefusedImageError, Transform

if TYPE_CHECKING:
    from darkroom.prediction.heat_maps import Draw
    from darkroom.prediction.predictor import Predictor

S = TypeVar("S", bound=Iterable[Picture])

# The model runs on this many pictures at once, fewer if their files or pixels have more bytes. The same ones are
# together on every machine and however many workers there are, because the last bits of an answer depend on them.
BATCH = 128
BATCH_BYTES = 32 << 20
PIXEL_BYTES = 4 << 20
# Fewer pictures are decoded by threads, FEW at a time: starting processes would take longer than they save.
PARALLEL_FROM = 2048
FEW = 8


@dataclass(frozen=True)
class BatchPredictions:
    """The predictions of the model for n pictures.

    ``probabilities`` is float64 [n, classes], NaN for a picture that could not be read; ``errors`` says why.
    ``inverted``, ``unlike_training`` and ``perhaps_negative`` are bool [n]; see ``Predictor``. ``members`` bool
    [n, classes] are the prediction sets, None if the model has none.
    """

    pictures: Sequence[Picture]
    probabilities: NDArray[np.float64]
    inverted: NDArray[np.bool_]
    unlike_training: NDArray[np.bool_]
    perhaps_negative: NDArray[np.bool_]
    errors: Sequence[str | None]
    members: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class DecodedPictures:
    """The k of n pictures that could be read: ``pixels`` uint8 [k, C, H, W] and ``inverted`` bool [k].

    ``errors`` [n] are the reasons for the others.
    """

    pixels: NDArray[np.uint8]
    inverted: NDArray[np.bool_]
    errors: Sequence[str | None]


def answer_all(
    predictor: "Predictor", shards: Iterable[S], *, invert: bool | None = None, draw: "Draw | None" = None
) -> Iterator[tuple[S, BatchPredictions]]:
    """The answers for the pictures of ``shards``, in their order, some at a time; see ``Transform`` for ``invert``.

    ``draw`` is given what could be read, with its numbers and answers; threads call it in any order. Each shard has at
    least one batch, which may be empty.
    """
    batches: Iterator[tuple[S, list[Picture]]] = (
        (shard, batch) for shard in shards for batch in _batches(predictor, shard)
    )
    first, pictures, size, is_many = [], 0, 0, False
    for shard, batch in batches:
        first.append((shard, batch))
        pictures, size = pictures + len(batch), size + _bytes_of(batch)
        if is_many := pictures >= PARALLEL_FROM or size >= BATCH_BYTES:
            break
    batches = chain(first, batches)
    del first
    workers = os.cpu_count() or 1
    decode, answer = partial(decode_all, predictor.transform, invert), partial(_answer, predictor, invert, draw)
    with (
        processes(workers) if is_many else _threads(workers) as spread,
        # Batches side by side: threads within one would wait for each other while others decode.
        _undivided() if is_many else nullcontext(),
        _threads(workers if is_many else 1) as beside,
    ):
        ahead: deque[tuple[S, Iterator[BatchPredictions]]] = deque()
        before = 0
        for shard, batch in batches:
            parts = [batch] if is_many else [batch[start : start + FEW] for start in range(0, len(batch), FEW)]
            ahead.append((shard, beside(answer, [before], [_named(batch)], [spread(decode, parts)])))
            before += len(batch)
            if len(ahead) > 2 * workers:
                done, answers = ahead.popleft()
                yield done, next(answers)
        while ahead:
            done, answers = ahead.popleft()
            yield done, next(answers)


def answer_alone(
    predictor: "Predictor", shard: Iterable[Picture], *, invert: bool | None = None
) -> Iterator[BatchPredictions]:
    """What ``answer_all`` answers for one shard, in this thread alone."""
    for batch in _batches(predictor, shard):
        decoded = iter([decode_all(predictor.transform, invert, batch)])
        yield _answer(predictor, invert, None, 0, _named(batch), decoded)


def decode_all(transform: Transform, invert: bool | None, pictures: Sequence[Picture]) -> DecodedPictures:
    """Read and decode pictures."""
    seen: list[ModelInput] = []
    errors: list[str | None] = []
    for picture in pictures:
        try:
            seen.append(see(transform, picture, invert))
            errors.append(None)
        except RefusedImageError as problem:
            errors.append(str(problem))
    pixels = np.empty((len(seen), transform.decoder.channels, *transform.decoder.size), np.uint8)
    for row, each in enumerate(seen):
        pixels[row] = each.pixels
    return DecodedPictures(pixels, np.array([each.inverted for each in seen], bool), errors)


def rank(classes: Sequence[str], probabilities: NDArray[np.float64]) -> dict[str, float]:
    """The probability of each class, the most probable first; of equal ones the first in the order of the classes."""
    return {classes[index]: float(probabilities[index]) for index in np.argsort(-probabilities, kind="stable")}


def see(transform: Transform, picture: Picture, invert: bool | None) -> ModelInput:
    """The model's input for a picture. Raises RefusedImageError if it cannot be read or decoded."""
    try:
        content = picture.content
        if content is None:
            with open(picture.file, "rb", buffering=0) as opened:  # noqa: PTH123  # a Path takes twice the time
                content = opened.read()
        return transform(content, invert=invert)
    except OSError as problem:
        raise RefusedImageError(f"cannot be read ({(problem.strerror or str(problem)).lower()})") from None
    except RefusedImageError as problem:
        raise RefusedImageError(f"cannot be decoded ({problem})") from None


def _answer(
    predictor: "Predictor",
    invert: bool | None,
    draw: "Draw | None",
    before: int,
    pictures: Sequence[Picture],
    decoded: Iterator[DecodedPictures],
) -> BatchPredictions:
    """The answers for a batch; ``before`` it there were so many pictures, by which ``draw`` numbers them from 1."""
    parts = list(decoded)
    errors = [error for part in parts for error in part.errors]
    is_read = np.array([error is None for error in errors], bool)
    probabilities = np.full((len(pictures), len(predictor.classes)), np.nan)
    inverted, unlike, negative = np.zeros((3, len(pictures)), bool)
    members = np.zeros(probabilities.shape, bool) if predictor.sets else None
    if is_read.any():
        pixels = np.concatenate([part.pixels for part in parts])
        probabilities[is_read], unlike[is_read], found = predictor.answer(pixels)
        if members is not None:
            members[is_read] = found
        inverted[is_read] = np.concatenate([part.inverted for part in parts])
        if invert is None:
            negative[is_read] = predictor.perhaps_negative(pixels)
        if draw is not None:
            draw(list(compress(enumerate(pictures, before + 1), is_read)), pixels, probabilities[is_read])
    return BatchPredictions(pictures, probabilities, inverted, unlike, negative, errors, members)


def _batches(predictor: "Predictor", shard: Iterable[Picture]) -> Iterator[list[Picture]]:
    """The pictures of a shard that the model runs on at once; an empty batch if there are none."""
    decoder = predictor.transform.decoder
    rows = min(BATCH, max(1, PIXEL_BYTES // (decoder.channels * decoder.size[0] * decoder.size[1])))
    coming = iter(shard)
    yield list(_take(coming, rows))
    yield from iter(lambda: list(_take(coming, rows)), [])


def _named(batch: Sequence[Picture]) -> list[Picture]:
    return [picture._replace(content=None) for picture in batch]


def _take(pictures: Iterator[Picture], count: int) -> Iterator[Picture]:
    """The next ``count`` pictures; fewer if they exceed BATCH_BYTES, or there are no more."""
    taken = size = 0
    while taken < count and size < BATCH_BYTES and (picture := next(pictures, None)):
        taken, size = taken + 1, size + len(picture.content or b"")
        yield picture


def _bytes_of(pictures: Sequence[Picture]) -> int:
    return sum(len(picture.content or b"") for picture in pictures)


@contextmanager
def _threads(count: int) -> Iterator[Map]:
    """``map``, spread over ``count`` threads."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _undivided() -> Iterator[None]:
    """Have torch compute each batch with one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
