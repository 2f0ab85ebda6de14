"""Crop a random part of each image and enlarge it to the full size."""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from darkroom.data.augmentation.draws import below, rand

# As torchvision does: one size after the other is drawn until one fits into the image.
ATTEMPTS = 10


def crop(images: Tensor, top: Tensor, left: Tensor, heights: Tensor, widths: Tensor) -> Tensor:
    """Cut a rectangle out of each of ``images`` uint8 [N, C, H, W] and enlarge it to [H, W], in bilinear interpolation.

    The others are int64 [N], in pixels; the rectangles lie within the images. Follows the definition of
    torchvision.transforms.v2.functional.resized_crop. A rectangle is never reduced, so antialiasing would change
    nothing.
    """
    height, width = images.shape[-2:]
    down, across = _places(top, heights, height), _places(left, widths, width)
    grid = torch.stack(torch.broadcast_tensors(across[:, None, :], down[:, :, None]), -1)
    cut = F.grid_sample(images.to(grid.dtype), grid, padding_mode="border", align_corners=False)
    return cut.round_().to(images.dtype)


def _places(starts: Tensor, lengths: Tensor, size: int) -> Tensor:
    """Where each new pixel along a side of ``size`` pixels lies in the old image, from -1 to 1: float [N, size]."""
    inside = (torch.arange(size, device=starts.device) + 0.5) / size * lengths[:, None]
    # Nothing from outside the rectangle takes part in the interpolation.
    inside = torch.minimum(inside.clamp(min=0.5), lengths[:, None] - 0.5)
    return 2 * (starts[:, None] + inside) / size - 1


def random_crop(images: Tensor, scale: tuple[float, float], ratio: tuple[float, float], generator: Generator) -> Tensor:
    """Crop each image to a rectangle of random size, shape and place, and enlarge it again.

    Its share of the area is drawn evenly from ``scale``, the logarithm of its width to height evenly from that of
    ``ratio``, and its place evenly. A size that does not fit is drawn again, up to ten times. After that the largest
    central rectangle of a permitted shape is taken. This is the distribution of torchvision's RandomResizedCrop.
    """
    height, width = images.shape[-2:]
    heights, widths, fits = _sizes((height, width), len(images), scale, ratio, generator)
    first = fits.int().argmax(0, keepdim=True)
    found = fits.any(0)
    central = _central(height, width, ratio)
    heights = torch.where(found, heights.gather(0, first)[0], central[0])
    widths = torch.where(found, widths.gather(0, first)[0], central[1])
    top = torch.where(found, below(height - heights + 1, generator), (height - central[0]) // 2)
    left = torch.where(found, below(width - widths + 1, generator), (width - central[1]) // 2)
    return crop(images, top, left, heights, widths)


def _sizes(
    size: tuple[int, int], count: int, scale: tuple[float, float], ratio: tuple[float, float], generator: Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Heights and widths int64 [ATTEMPTS, count] of rectangles, and whether each fits into an image of ``size``."""
    drawn = rand(2, ATTEMPTS, count, generator=generator, device=generator.device)
    area = size[0] * size[1] * (scale[0] + drawn[0] * (scale[1] - scale[0]))
    low, high = map(math.log, ratio)
    shape = (low + drawn[1] * (high - low)).exp()
    heights, widths = (area / shape).sqrt().round().long(), (area * shape).sqrt().round().long()
    fits = (heights > 0) & (heights <= size[0]) & (widths > 0) & (widths <= size[1])
    return heights, widths, fits


def _central(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the largest rectangle within an image whose width to height lies within ``ratio``."""
    if width / height < ratio[0]:
        return max(1, round(width / ratio[0])), width
    if width / height > ratio[1]:
        return height, max(1, round(height * ratio[1]))
    return height, width
