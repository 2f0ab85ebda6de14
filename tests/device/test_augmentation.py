"""Each change of images, with the same draws, gives the same pixels on the device as on a CPU."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from darkroom.data.augmentation.blur import blur
from darkroom.data.augmentation.color import brighten, contrast, saturate, turn_hue
from darkroom.data.augmentation.crop import crop
from darkroom.data.augmentation.erasing import blank, boxes
from darkroom.data.augmentation.geometry import affine, flip, translate
from darkroom.data.augmentation.mixing import blend

COUNT, SIDE = 12, 14


def drawn(low: float, high: float, seed: int = 0) -> Tensor:
    return low + (high - low) * torch.rand(COUNT, generator=torch.Generator().manual_seed(seed))


def whole(low: int, high: int, seed: int = 0) -> Tensor:
    return torch.randint(low, high, (COUNT,), generator=torch.Generator().manual_seed(seed))


def rectangles(images: Tensor, *given: Tensor) -> Tensor:
    return blank(images, boxes((SIDE, SIDE), *given))


def shifted(padding: str) -> Callable[..., Tensor]:
    return lambda images, down, right: translate(images, torch.stack([down, right]), 3, padding)


CHANGES: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "flip": (flip, (drawn(0, 1) < 0.5,)),
    "flip, vertical": (lambda images, mirrored: flip(images, mirrored, -2), (drawn(0, 1) < 0.5,)),
    "crop": (crop, (whole(0, 5), whole(0, 5, 1), whole(1, 10, 2), whole(1, 10, 3))),
    **{f"translate, {name}": (shifted(name), (whole(-3, 4), whole(-3, 4, 1))) for name in ("black", "edge", "reflect")},
    "affine": (affine, (drawn(-20, 20), drawn(0.8, 1.2, 1), drawn(-10, 10, 2))),
    "brightness": (brighten, (drawn(0.5, 1.5),)),
    "contrast": (contrast, (drawn(0.5, 1.5),)),
    "saturation": (saturate, (drawn(0.5, 1.5),)),
    "hue": (turn_hue, (drawn(-0.5, 0.5),)),
    "blur": (lambda images, sigmas: blur(images, sigmas, 4), (drawn(0, 1.5),)),
    "erasing": (rectangles, (whole(0, 9), whole(0, 9, 1), whole(1, 9, 2), whole(1, 9, 3))),
    "mixup": (lambda images, share: blend(images, images.roll(1, 0), share), (drawn(0, 1),)),
}


@pytest.mark.parametrize(
    ("name", "channels"),
    [(name, channels) for name in CHANGES for channels in (1, 3) if channels == 3 or name != "hue"],
)
def test_the_same_draws_give_the_same_pixels(device, name: str, channels: int) -> None:
    change, draws = CHANGES[name]
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(0, 256, (COUNT, channels, SIDE, SIDE), dtype=torch.uint8, generator=generator)

    found = change(images.to(device), *(each.to(device) for each in draws)).cpu()

    difference = (found.int() - change(images, *draws).int()).abs()
    # Where a value lies between two bytes, rounding decides.
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 0.01
