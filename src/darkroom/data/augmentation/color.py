"""Brightness and contrast, each image by a factor of its own."""

import torch
from torch import Generator, Tensor


def brighten(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply ``images`` uint8 [N, C, H, W] by ``factors`` float [N]."""
    return _to_bytes(images * factors[:, None, None, None])


def random_brightness(images: Tensor, most: float, generator: Generator) -> Tensor:
    """Multiply each image by a factor drawn evenly from 1 - most to 1 + most."""
    return brighten(images, _factors(images, most, generator))


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Scale the distance of ``images`` uint8 [N, C, H, W] from their mean grey by ``factors`` float [N]."""
    means = _gray(images).float().mean((1, 2, 3), keepdim=True)
    share = factors[:, None, None, None]
    return _to_bytes(images * share + means * (1 - share))


def _gray(images: Tensor) -> Tensor:
    if images.shape[1] != 3:
        return images
    # Takes seconds to import, and only contrast needs it.
    from torchvision.transforms.v2.functional import rgb_to_grayscale

    gray: Tensor = rgb_to_grayscale(images)
    return gray


def random_contrast(images: Tensor, most: float, generator: Generator) -> Tensor:
    """Change the contrast of each image by a factor drawn evenly from 1 - most to 1 + most."""
    return contrast(images, _factors(images, most, generator))


def _factors(images: Tensor, most: float, generator: Generator) -> Tensor:
    return 1 + most * (2 * torch.rand(len(images), generator=generator, device=images.device) - 1)


def _to_bytes(values: Tensor) -> Tensor:
    return values.round_().clamp_(0, 255).to(torch.uint8)
