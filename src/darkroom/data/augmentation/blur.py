"""Blur each image by its own amount."""

import math

import torch
from torch import Generator, Tensor

from darkroom.data.augmentation.draws import rand

# Gaussian weights further away, in standard deviations, are left out.
REACH = 3


def blur(images: Tensor, sigmas: Tensor, radius: int) -> Tensor:
    """Blur ``images`` uint8 [N, C, H, W] with Gaussian weights of standard deviation ``sigmas`` float [N], in pixels.

    Each pixel is the mean of those up to ``radius`` pixels away, along rows and columns; the images are mirrored at
    their edges. Follows the definition of torchvision.transforms.v2.functional.gaussian_blur.
    """
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    # Of almost no blur the weights are 1 and 0.
    weights = (-0.5 * (offsets / sigmas.clamp(min=1e-3)[:, None]) ** 2).exp()
    weights = weights / weights.sum(1, keepdim=True)
    down, across = (_matrices(weights, offsets, size) for size in images.shape[-2:])
    # The channels side by side, so that no matrix is copied for each of them.
    rows = (images.to(weights.dtype).flatten(1, 2) @ across.transpose(1, 2)).view_as(images)
    both = (down @ rows.transpose(1, 2).flatten(2)).view_as(rows.transpose(1, 2))
    return both.transpose(1, 2).contiguous().round_().to(images.dtype)


def _matrices(weights: Tensor, offsets: Tensor, size: int) -> Tensor:
    """The weight of each old pixel along a side in each new one: float [N, size, size]."""
    pixels = torch.arange(size, device=offsets.device)
    period = max(2 * (size - 1), 1)
    places = (pixels[:, None] + offsets).remainder(period)
    places = torch.minimum(places, period - places)
    taken = (places[..., None] == pixels).to(weights.dtype)
    return torch.einsum("nk,rkc->nrc", weights, taken)


def random_blur(images: Tensor, most: float, generator: Generator) -> Tensor:
    """Blur each image by a standard deviation drawn evenly from 0 to ``most`` pixels."""
    sigmas = most * rand(len(images), generator=generator, device=images.device)
    return blur(images, sigmas, math.ceil(REACH * most))
