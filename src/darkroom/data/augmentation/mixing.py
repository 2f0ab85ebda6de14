"""Mix pairs of images and their labels."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Generator, Tensor

from darkroom.config.settings import Augment
from darkroom.data.augmentation.erasing import boxes

QUANTILES = 4096


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

    def chunk(self, parts: int) -> list["Target"]:
        """Like torch.chunk, for each of the tensors."""
        columns = [
            [None] * parts if column is None else column.chunk(parts)
            for column in (self.labels, self.partners, self.share)
        ]
        return [Target(*row) for row in zip(*columns, strict=False)]


def mix(images: Tensor, labels: Tensor, settings: Augment, generator: Generator) -> tuple[Tensor, Target]:
    """Mix each of ``images`` uint8 [N, C, H, W] with the one before it, in a batch that is in random order.

    Where both ways are wanted, each image takes either with probability 1/2.
    """
    partners, count = images.roll(1, 0), len(images)
    share = torch.ones(count, device=images.device)
    pasting = torch.zeros(count, dtype=torch.bool, device=images.device)
    if settings.cutmix:
        pasting = ~pasting
        if settings.mixup:
            pasting = torch.rand(count, generator=generator, device=images.device) < 0.5
        pasted, pasted_share = paste(images, partners, _draw(settings.cutmix, count, generator), generator)
        images, share = torch.where(pasting[:, None, None, None], pasted, images), torch.where(pasting, pasted_share, 1)
    if settings.mixup:
        drawn = torch.where(pasting, 1, _draw(settings.mixup, count, generator))
        images, share = blend(images, partners, drawn), share * drawn
    return images, Target(labels, labels.roll(1, 0), share)


def blend(images: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """``share`` float [N] of ``images``, the rest of ``partners``: mixup (Zhang et al., 2017).

    Both are uint8 [N, C, H, W], or features of floating point.
    """
    weight = share[:, None, None, None]
    mixed = images * weight + partners * (1 - weight)
    return mixed.to(images.dtype) if images.is_floating_point() else mixed.round_().to(images.dtype)


def paste(images: Tensor, partners: Tensor, share: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Paste a rectangle of ``partners`` that leaves about ``share`` float [N] of ``images``: CutMix (Yun et al., 2019).

    Returns the images and the share of each that is really left: the rectangle is cut off at the edges.
    """
    count, _, height, width = images.shape
    side = (1 - share).sqrt()
    heights, widths = (side * height).long(), (side * width).long()
    drawn = torch.rand(2, count, generator=generator, device=images.device)
    top = (drawn[0] * height).long() - heights // 2
    left = (drawn[1] * width).long() - widths // 2
    inside = boxes((height, width), top, left, heights, widths)
    return torch.where(inside, partners, images), 1 - inside.float().mean((1, 2, 3))


def _draw(alpha: float, count: int, generator: Generator) -> Tensor:
    """Float [count] from Beta(alpha, alpha). torch's own distributions draw from no generator of ours."""
    quantiles = _quantiles(alpha, generator.device)
    return quantiles[torch.randint(QUANTILES, (count,), generator=generator, device=generator.device)]


@lru_cache(maxsize=8)
def _quantiles(alpha: float, device: torch.device) -> Tensor:
    from scipy.stats import beta  # takes a second to import, and only mixing needs it

    places = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
    return torch.from_numpy(beta(alpha, alpha).ppf(places.numpy())).float().to(device)
