"""Random changes to a batch of images, drawn per image, on the device, in whole-batch operations."""

import torch
from torch import Generator, Tensor

from darkroom.settings import Augment


def augment(images: Tensor, settings: Augment, generator: Generator) -> Tensor:
    """A changed copy of ``images`` uint8 [N, C, H, W] (or the images themselves if nothing is to be done).

    Each image is mirrored with probability 1/2 and shifted by whole pixels drawn evenly from
    -translate to translate in both directions; what comes in from outside is black.
    """
    if settings.flip:
        images = random_flip(images, generator)
    if settings.translate:
        images = random_translate(images, settings.translate, generator)
    return images


def random_flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each image of [N, C, H, W] left-right with probability 1/2."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(-1), images)


def random_translate(images: Tensor, pixels: int, generator: Generator) -> Tensor:
    """Shift each image of [N, C, H, W] by -pixels to pixels, down and right, drawn evenly; the rest is 0."""
    count, _, height, width = images.shape
    shifts = torch.randint(-pixels, pixels + 1, (2, count, 1), generator=generator, device=images.device)
    rows = torch.arange(height, device=images.device) - shifts[0]
    columns = torch.arange(width, device=images.device) - shifts[1]
    inside = ((rows >= 0) & (rows < height))[:, None, :, None] & ((columns >= 0) & (columns < width))[:, None, None, :]
    index = torch.arange(count, device=images.device)[:, None, None]
    # Advanced indices around a slice put the channels last; move them back.
    moved = images[index, :, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]]
    return moved.permute(0, 3, 1, 2) * inside
