"""TrivialAugment: one random change for each image, with a random strength (Müller and Hutter, 2021).

The list and the strengths are those of the paper's wide space for images of any size ("TrivialAugment: tuning-free yet
state-of-the-art data augmentation", table 1): what torchvision calls TrivialAugmentWide.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Generator, Tensor

from darkroom.data.augmentation.color import brighten, contrast, saturate
from darkroom.data.augmentation.draws import some_places
from darkroom.data.augmentation.geometry import affine, translate

# The number of strengths, from 0 to the strongest.
LEVELS = 31
# The strongest change of each kind. Shifts are in pixels, in small images at most a third of a side.
DEGREES = 135.0
SHEAR = 0.99
SHIFT = 32
SHIFT_SHARE = 3
FACTOR = 0.99
BITS_LOST = 6

# Changes images uint8 [n, C, H, W] by strengths float [n] from 0 to 1, either way by signs of 1 and -1.
Operation = Callable[[Tensor, Tensor, Tensor], Tensor]


def random_policy(images: Tensor, generator: Generator) -> Tensor:
    """One of the operations for each image, all of them equally likely.

    A batch is shared out among the operations: how many images one of them gets is no value that the host would have to
    wait for. Where it cannot be shared out evenly, places without an image make it up to the next size that can.
    """
    some = some_places()
    device, count = images.device, len(images) if some is None else some[1]
    places = -(-count // len(OPERATIONS)) * len(OPERATIONS)
    order = torch.rand(places, generator=generator, device=device).argsort()
    strengths = torch.randint(LEVELS, (places,), generator=generator, device=device) / (LEVELS - 1)
    signs = 2 * torch.randint(2, (places,), generator=generator, device=device) - 1
    shares = zip(OPERATIONS.values(), order.chunk(len(OPERATIONS)), strict=True)
    if some is not None:
        return _change_some(images, some[0], shares, strengths, signs)
    changed = images.new_empty((places, *images.shape[1:]))
    for operation, rows in shares:
        changed[rows] = operation(images[rows.clamp(max=count - 1)], strengths[rows], signs[rows])
    return changed[:count]


def _change_some(
    images: Tensor,
    places: Tensor,
    shares: Iterable[tuple[Operation, Tensor]],
    strengths: Tensor,
    signs: Tensor,
) -> Tensor:
    """What the operations make of ``images``, which are those at ``places`` of a batch that is shared out."""
    number = torch.full_like(signs, -1)
    number[places] = torch.arange(len(images), device=images.device)
    changed = torch.empty_like(images)
    for operation, rows in shares:
        here = rows[number[rows] >= 0]
        if len(here):
            changed[number[here]] = operation(images[number[here]], strengths[here], signs[here])
    return changed


def _keep(images: Tensor, strengths: Tensor, signs: Tensor) -> Tensor:
    return images


def _rotate(images: Tensor, strengths: Tensor, signs: Tensor) -> Tensor:
    nothing = torch.zeros_like(strengths)
    return affine(images, DEGREES * strengths * signs, nothing + 1, nothing)


def _shear_rows(images: Tensor, strengths: Tensor, signs: Tensor) -> Tensor:
    nothing = torch.zeros_like(strengths)
    return affine(images, nothing, nothing + 1, (SHEAR * strengths * signs).atan().rad2deg())


def _shear_columns(images: Tensor, strengths: Tensor, signs: Tensor) -> Tensor:
    return _shear_rows(images.mT, strengths, signs).mT


def _shift(dimension: int) -> Operation:
    """Down for ``dimension`` 0, right for 1."""

    def shift(images: Tensor, strengths: Tensor, signs: Tensor) -> Tensor:
        largest = min(SHIFT, images.shape[2 + dimension] // SHIFT_SHARE)
        pixels = (largest * strengths).long() * signs
        still = torch.zeros_like(pixels)
        return translate(images, torch.stack([still, pixels] if dimension else [pixels, still]), largest)

    return shift


def _by_factor(change: Callable[[Tensor, Tensor], Tensor]) -> Operation:
    return lambda images, strengths, signs: change(images, 1 + FACTOR * strengths * signs)


def _saturate(images: Tensor, factors: Tensor) -> Tensor:
    return saturate(images, factors) if images.shape[1] == 3 else images


def _sharpen(images: Tensor, factors: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import adjust_sharpness

    smooth = adjust_sharpness(images, 0.0)
    share = factors[:, None, None, None]
    sharpened: Tensor = images * share + smooth * (1 - share)
    return sharpened.round_().clamp_(0, 255).to(torch.uint8)


def _posterize(images: Tensor, strengths: Tensor, signs: Tensor) -> Tensor:
    lost = (BITS_LOST * strengths).round().long()
    return images & (256 - 2**lost).to(torch.uint8)[:, None, None, None]


def _solarize(images: Tensor, strengths: Tensor, signs: Tensor) -> Tensor:
    threshold = 255 * (1 - strengths)
    return torch.where(images >= threshold[:, None, None, None], 255 - images, images)


def _stretch(images: Tensor, strengths: Tensor, signs: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import autocontrast

    stretched: Tensor = autocontrast(images)
    return stretched


def _equalize(images: Tensor, strengths: Tensor, signs: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import equalize

    equalized: Tensor = equalize(images)
    return equalized


OPERATIONS: dict[str, Operation] = {
    "keep": _keep,
    "shear rows": _shear_rows,
    "shear columns": _shear_columns,
    "shift right": _shift(1),
    "shift down": _shift(0),
    "rotate": _rotate,
    "brightness": _by_factor(brighten),
    "saturation": _by_factor(_saturate),
    "contrast": _by_factor(contrast),
    "sharpness": _by_factor(_sharpen),
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _stretch,
    "equalize": _equalize,
}
