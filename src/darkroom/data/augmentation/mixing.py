"""Mix pairs of images and their labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Generator, Tensor

from darkroom.config.settings import Augment
from darkroom.data.augmentation.erasing import boxes
from darkroom.data.shares import Rows

QUANTILES = 4096
WHOLE = slice(None)


@dataclass(frozen=True)
class Target:
    """The target of each image of a batch: class ``labels`` int64 [N].

    Of mixed images only ``share`` float [N] is of that class and the rest of class ``partners`` int64 [N].
    """

    labels: Tensor
    partners: Tensor | None = None
    share: Tensor | None = None

    @property
    def dominant(self) -> Tensor:
        """The class that each image shows most of: int64 [N]."""
        if self.partners is None or self.share is None:
            return self.labels
        return torch.where(self.share < 0.5, self.partners, self.labels)

    def at(self, places: Tensor) -> "Target":
        """The target of the images at ``places`` int64 [n]."""
        columns = (None if each is None else each[places] for each in (self.partners, self.share))
        return Target(self.labels[places], *columns)

    def chunk(self, parts: int) -> list["Target"]:
        """Like torch.chunk, for each of the tensors."""
        columns = [
            [None] * parts if column is None else column.chunk(parts)
            for column in (self.labels, self.partners, self.share)
        ]
        return [Target(*row) for row in zip(*columns, strict=False)]


def mix(
    images: Tensor, labels: Tensor, settings: Augment, generator: Generator, rows: Rows | None = None
) -> tuple[Tensor, Target]:
    """Mix each of ``images`` uint8 [N, C, H, W] with the one before it, in a batch that is in random order.

    Where both ways are wanted, each image takes either with probability 1/2. With ``rows``, the images are those that
    it takes of a batch with these ``labels``: returns its own, mixed, and the target of the whole batch.
    """
    count = len(labels)
    own = WHOLE if rows is None else rows.places
    images, partners = (images, images.roll(1, 0)) if rows is None else (images[: len(rows)], images[rows.before])
    share = torch.ones(count, device=images.device)
    pasting = torch.zeros(count, dtype=torch.bool, device=images.device)
    if settings.cutmix:
        pasting = ~pasting
        if settings.mixup:
            pasting = torch.rand(count, generator=generator, device=images.device) < 0.5
        pasted, pasted_share = paste(images, partners, _draw(settings.cutmix, count, generator), generator, own)
        images = torch.where(pasting[own, None, None, None], pasted, images)
        share = torch.where(pasting, pasted_share, 1)
    if settings.mixup:
        drawn = torch.where(pasting, 1, _draw(settings.mixup, count, generator))
        images, share = blend(images, partners, drawn[own]), share * drawn
    return images, Target(labels, labels.roll(1, 0), share)


def mix_together(
    images: Tensor, labels: Tensor, settings: Sequence[Augment], generators: Sequence[Generator]
) -> tuple[Tensor, list[Target]]:
    """What ``mix`` does with each of K batches, uint8 or features [K, N, C, H, W], at once; none of them is pasted.

    A batch whose settings mix nothing stays as it is.
    """
    count = labels.shape[1]
    shares = torch.ones(labels.shape, device=images.device)
    for share, each, generator in zip(shares, settings, generators, strict=True):
        if each.mixup:
            share.copy_(_draw(each.mixup, count, generator))
    mixed = blend(images.flatten(0, 1), images.roll(1, 1).flatten(0, 1), shares.flatten()).view_as(images)
    partners = labels.roll(1, 1)
    return mixed, [Target(*row) for row in zip(labels, partners, shares, strict=True)]


def blend(images: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """``share`` float [N] of ``images``, the rest of ``partners``: mixup (Zhang et al., 2017).

    Both are uint8 [N, C, H, W], or features of floating point.
    """
    weight = share[:, None, None, None].to(torch.promote_types(images.dtype, torch.float32))
    mixed = torch.lerp(partners.to(weight.dtype), images.to(weight.dtype), weight)
    return mixed.to(images.dtype) if images.is_floating_point() else mixed.round_().to(images.dtype)


def paste(
    images: Tensor, partners: Tensor, share: Tensor, generator: Generator, own: slice | Tensor = WHOLE
) -> tuple[Tensor, Tensor]:
    """Paste a rectangle of ``partners`` that leaves about ``share`` float [N] of ``images``: CutMix (Yun et al., 2019).

    The images are those at the places ``own`` of a batch of N. Returns them, and the share of each of the batch that is
    really left: the rectangle is cut off at the edges.
    """
    (height, width), count = images.shape[2:], len(share)
    side = (1 - share).sqrt()
    heights, widths = (side * height).long(), (side * width).long()
    drawn = torch.rand(2, count, generator=generator, device=images.device)
    top = (drawn[0] * height).long() - heights // 2
    left = (drawn[1] * width).long() - widths // 2
    inside = boxes((height, width), top[own], left[own], heights[own], widths[own])
    covered = _covered(top, heights, height) * _covered(left, widths, width)
    return torch.where(inside, partners, images), 1 - covered / (height * width)


def _covered(starts: Tensor, lengths: Tensor, size: int) -> Tensor:
    """How many of the ``size`` pixels along a side a rectangle covers: int64 [N]."""
    return (starts + lengths).clamp(0, size) - starts.clamp(0, size)


def _draw(alpha: float, count: int, generator: Generator) -> Tensor:
    """Float [count] from Beta(alpha, alpha). torch's own distributions draw from no generator of ours."""
    quantiles = _quantiles(alpha, generator.device)
    return quantiles[torch.randint(QUANTILES, (count,), generator=generator, device=generator.device)]


@lru_cache(maxsize=1024)  # a search has an alpha for each trial, and draws in each step
def _quantiles(alpha: float, device: torch.device) -> Tensor:
    from scipy.special import betaincinv  # takes long to import, and only mixing needs it

    places = (torch.arange(QUANTILES // 2, dtype=torch.float64) + 0.5) / QUANTILES
    half = torch.from_numpy(betaincinv(alpha, alpha, places.numpy()))
    # The distribution is symmetric.
    return torch.cat([half, 1 - half.flip(0)]).float().to(device)
