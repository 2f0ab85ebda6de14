"""Change brightness, contrast, saturation and hue, each image by its own amount."""

import torch
from torch import Generator, Tensor

from darkroom.data.augmentation.draws import rand


def brighten(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply ``images`` uint8 [N, C, H, W] by ``factors`` float [N]."""
    return _to_bytes(images * factors[:, None, None, None])


def random_brightness(images: Tensor, most: float, generator: Generator) -> Tensor:
    """Multiply each image by a factor drawn evenly from 1 - most to 1 + most."""
    return brighten(images, _factors(images, most, generator))


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Scale the distance of ``images`` uint8 [N, C, H, W] from their mean gray by ``factors`` float [N]."""
    means = _gray(images).float().mean((1, 2, 3), keepdim=True)
    share = factors[:, None, None, None]
    return _to_bytes(images * share + means * (1 - share))


def random_contrast(images: Tensor, most: float, generator: Generator) -> Tensor:
    """Change the contrast of each image by a factor drawn evenly from 1 - most to 1 + most."""
    return contrast(images, _factors(images, most, generator))


def saturate(images: Tensor, factors: Tensor) -> Tensor:
    """Scale the distance of ``images`` uint8 [N, 3, H, W] from their gray pixels by ``factors`` float [N]."""
    share = factors[:, None, None, None]
    return _to_bytes(images * share + _gray(images) * (1 - share))


def random_saturation(images: Tensor, most: float, generator: Generator) -> Tensor:
    """Change the saturation of each image by a factor drawn evenly from 1 - most to 1 + most."""
    return saturate(images, _factors(images, most, generator))


def turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Add ``turns`` float [N], in whole turns of the color wheel, to the hue of ``images`` uint8 [N, 3, H, W]."""
    red, green, blue = images.float().unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    # Grays have no hue, and a chroma of 0 keeps them as they are whatever stands for it.
    divisor = chroma.clamp(min=1)
    # In sixths of the wheel, from red.
    hue = torch.where(
        high == red,
        (green - blue) / divisor,
        torch.where(high == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue += 6 * turns[:, None, None]
    changed = []
    for own in (0, 2, 4):
        # A channel is at its highest within a sixth of its own hue, and at its lowest from two sixths on.
        away = hue - own
        away -= 6 * (away / 6).round_()
        changed.append(low + chroma * (2 - away.abs_()).clamp_(0, 1))
    return _to_bytes(torch.stack(changed, 1))


def random_hue(images: Tensor, most: float, generator: Generator) -> Tensor:
    """Turn the hue of each image by up to ``most`` whole turns either way, drawn evenly."""
    return turn_hue(images, _factors(images, most, generator) - 1)


def _gray(images: Tensor) -> Tensor:
    if images.shape[1] != 3:
        return images
    # Takes seconds to import, and only contrast and saturation need it.
    from torchvision.transforms.v2.functional import rgb_to_grayscale

    gray: Tensor = rgb_to_grayscale(images)
    return gray


def _factors(images: Tensor, most: float, generator: Generator) -> Tensor:
    return 1 + most * (2 * rand(len(images), generator=generator, device=images.device) - 1)


def _to_bytes(values: Tensor) -> Tensor:
    return values.round_().clamp_(0, 255).to(torch.uint8)
