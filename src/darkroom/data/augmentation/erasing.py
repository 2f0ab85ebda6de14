"""Blank a part of each image with the image's own mean color."""

import math

import torch
from torch import Generator, Tensor

from darkroom.data.augmentation.draws import below, rand

# Smallest and largest share of the area, and height to width, of an erased rectangle (Zhong et al., 2017).
AREAS = (0.02, 0.33)
RATIOS = (0.3, 3.3)


def boxes(size: tuple[int, int], top: Tensor, left: Tensor, heights: Tensor, widths: Tensor) -> Tensor:
    """True inside one rectangle for each image: bool [N, 1, H, W]. The rectangle is clipped to the image.

    ``size`` is (H, W); the others are int64 [N], in pixels.
    """
    rows = torch.arange(size[0], device=top.device)
    columns = torch.arange(size[1], device=top.device)
    down = (rows >= top[:, None]) & (rows < (top + heights)[:, None])
    across = (columns >= left[:, None]) & (columns < (left + widths)[:, None])
    return down[:, None, :, None] & across[:, None, None, :]


def blank(images: Tensor, where: Tensor) -> Tensor:
    """``images`` uint8 [N, C, H, W] with their mean color ``where`` bool [N, 1, H, W] is true."""
    means = images.float().mean((2, 3), keepdim=True).round_().to(images.dtype)
    return torch.where(where, means, images)


def random_cutout(images: Tensor, side: int, generator: Generator) -> Tensor:
    """Blank a square about a center drawn evenly from the pixels (DeVries and Taylor, 2017)."""
    height, width = images.shape[-2:]
    sides = torch.full((len(images),), side, device=images.device)
    top = below(torch.full_like(sides, height), generator) - side // 2
    left = below(torch.full_like(sides, width), generator) - side // 2
    return blank(images, boxes((height, width), top, left, sides, sides))


def random_erasing(images: Tensor, probability: float, generator: Generator) -> Tensor:
    """Blank, with ``probability``, a rectangle of random size and shape (Zhong et al., 2017)."""
    height, width = images.shape[-2:]
    drawn = rand(3, len(images), generator=generator, device=images.device)
    area = height * width * (AREAS[0] + drawn[0] * (AREAS[1] - AREAS[0]))
    low, high = (math.log(ratio) for ratio in RATIOS)
    ratio = (low + drawn[1] * (high - low)).exp()
    heights = (area * ratio).sqrt().round().clamp(1, height).long()
    widths = (area / ratio).sqrt().round().clamp(1, width).long()
    top = below(height - heights + 1, generator)
    left = below(width - widths + 1, generator)
    chosen = (drawn[2] < probability)[:, None, None, None]
    return blank(images, boxes((height, width), top, left, heights, widths) & chosen)
