"""Random numbers for each image of a batch, from a generator on the device.

A process that computes some images of a batch, and other processes the rest, draws for all of them and keeps what
belongs to its own: the images change as in one process, and the generators of all processes stay alike.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor

# Inside ``drawn_for``: the places of the images in a batch, and how many the batch has.
_some: tuple[Tensor, int] | None = None


@contextmanager
def drawn_for(places: Tensor, count: int) -> Iterator[None]:
    """Inside, images that are changed are those at ``places`` int64 [n] of a batch of ``count``."""
    global _some
    before, _some = _some, (places, count)
    try:
        yield
    finally:
        _some = before


def some_places() -> tuple[Tensor, int] | None:
    """What ``drawn_for`` was given; None where the images are a whole batch."""
    return _some


def rand(*shape: int, generator: Generator, device: torch.device) -> Tensor:
    """As torch.rand, for images along the last dimension of ``shape``."""
    return _own(torch.rand(*_whole(shape), generator=generator, device=device))


def randint(low: int, high: int, shape: tuple[int, ...], *, generator: Generator, device: torch.device) -> Tensor:
    """As torch.randint, for images along the last dimension of ``shape``."""
    return _own(torch.randint(low, high, _whole(shape), generator=generator, device=device))


def below(bounds: Tensor, generator: Generator) -> Tensor:
    """Whole numbers from 0 to below ``bounds`` int64 [N], drawn evenly: int64 [N]."""
    drawn = rand(len(bounds), generator=generator, device=bounds.device)
    return torch.minimum((drawn * bounds).long(), bounds - 1)


def _whole(shape: tuple[int, ...]) -> tuple[int, ...]:
    if _some is None:
        return shape
    places, count = _some
    assert shape[-1] == len(places)
    return *shape[:-1], count


def _own(drawn: Tensor) -> Tensor:
    return drawn if _some is None else drawn.index_select(-1, _some[0])
