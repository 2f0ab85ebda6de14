"""Mirror, shift, rotate, scale and shear, each image by its own amount."""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from darkroom.data.augmentation.draws import rand, randint


def flip(images: Tensor, mirrored: Tensor, dimension: int = -1) -> Tensor:
    """Mirror those of ``images`` [N, C, H, W] for which ``mirrored`` bool [N] is true.

    ``dimension`` -1 mirrors left-right, -2 top-bottom.
    """
    return torch.where(mirrored[:, None, None, None], images.flip(dimension), images)


def random_flip(images: Tensor, dimension: int, generator: Generator) -> Tensor:
    """Mirror each image with probability 1/2, left-right (``dimension`` -1) or top-bottom (-2)."""
    return flip(images, rand(len(images), generator=generator, device=images.device) < 0.5, dimension)


def translate(images: Tensor, shifts: Tensor, largest: int, padding: str = "black") -> Tensor:
    """Shift ``images`` [N, C, H, W] by ``shifts`` int64 [2, N], down and right, each from -largest to largest.

    What comes in from outside is "black", repeats the "edge", or is the image mirrored at it ("reflect"):
    the same as padding by ``largest`` and cropping.
    """
    count, _, height, width = images.shape
    padded = _pad(images, largest, padding)
    # Every possible crop as a view; picking one for each image copies whole rows.
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)
    rows, columns = largest - shifts
    return crops[torch.arange(count, device=images.device), :, rows, columns]


def random_translate(images: Tensor, largest: int, padding: str, generator: Generator) -> Tensor:
    """Shift each image by whole pixels, drawn evenly from -largest to largest in both directions."""
    size = (2, len(images))
    shifts = randint(-largest, largest + 1, size, generator=generator, device=images.device)
    return translate(images, shifts, largest, padding)


def _pad(images: Tensor, pixels: int, padding: str) -> Tensor:
    if padding == "black":
        return F.pad(images, (pixels,) * 4)
    # torch pads bytes with constants only, so the rows and columns are looked up.
    for dimension in (2, 3):
        size = images.shape[dimension]
        places = torch.arange(-pixels, size + pixels, device=images.device)
        if padding == "edge":
            places = places.clamp(0, size - 1)
        else:
            period = max(2 * (size - 1), 1)
            places = places.remainder(period)
            places = torch.minimum(places, (period - places) % max(period, size))
        images = images.index_select(dimension, places)
    return images


def affine(images: Tensor, degrees: Tensor, scales: Tensor, shears: Tensor, outside: str = "zeros") -> Tensor:
    """Turn clockwise, scale and shear ``images`` uint8 [N, C, H, W] about their centers, in bilinear interpolation.

    ``degrees``, ``scales`` (1 as it is) and ``shears`` (degrees, along the rows) are float [N]. What comes in from
    ``outside`` is black, or with "reflection" the image mirrored at its edge. Follows the definition of
    torchvision.transforms.v2.functional.affine.
    """
    height, width = images.shape[-2:]
    turn, shear = degrees.deg2rad(), shears.deg2rad()
    cosine, sine, tangent = turn.cos(), turn.sin(), shear.tan()
    # The inverse, from the new pixel to the old one, in coordinates of -1 to 1.
    first = torch.stack([cosine - sine * tangent, (cosine * tangent + sine) * (height / width)], 1)
    second = torch.stack([-sine * (width / height), cosine], 1)
    matrices = torch.stack([first, second], 1) / scales[:, None, None]
    matrices = F.pad(matrices, (0, 1))
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    moved = F.grid_sample(images.to(grid.dtype), grid, padding_mode=outside, align_corners=False)
    return moved.round_().to(images.dtype)


def random_affine(images: Tensor, degrees: float, scale: float, shear: float, generator: Generator) -> Tensor:
    """Turn each image by up to ``degrees`` either way, scale it by 1 - scale to 1 + scale, shear it by up to ``shear``
    degrees either way, all drawn evenly."""
    drawn = 2 * rand(3, len(images), generator=generator, device=images.device) - 1
    return affine(images, drawn[0] * degrees, 1 + drawn[1] * scale, drawn[2] * shear)
