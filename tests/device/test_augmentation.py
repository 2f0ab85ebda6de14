"""Each change of images, with the same draws, gives the same pixels on the device as on a CPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from darkroom.data.augmentation.blur import blur
from darkroom.data.augmentation.color import brighten, contrast, saturate, turn_hue
from darkroom.data.augmentation.crop import crop
from darkroom.data.augmentation.erasing import blank, boxes
from darkroom.data.augmentation.geometry import affine, flip, translate
from darkroom.data.augmentation.mixing import blend, paste
from darkroom.data.augmentation.policy import LEVELS, OPERATIONS, random_policy

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
    **{
        f"policy, {name}": (operation, (whole(0, LEVELS) / (LEVELS - 1), 2 * whole(0, 2, 1) - 1))
        for name, operation in OPERATIONS.items()
    },
}


def pictures(channels: int) -> Tensor:
    generator = Generator().manual_seed(7)
    return torch.randint(0, 256, (COUNT, channels, SIDE, SIDE), dtype=torch.uint8, generator=generator)


def assert_alike(found: Tensor, expected: Tensor) -> None:
    difference = (found.cpu().int() - expected.int()).abs()
    # Where a value lies between two bytes, rounding decides.
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 0.01


@pytest.mark.parametrize(
    ("name", "channels"),
    [(name, channels) for name in CHANGES for channels in (1, 3) if channels == 3 or name != "hue"],
)
def test_the_same_draws_give_the_same_pixels(device, name: str, channels: int) -> None:
    change, draws = CHANGES[name]
    images = pictures(channels)

    assert_alike(change(images.to(device), *(each.to(device) for each in draws)), change(images, *draws))


@pytest.fixture
def draws_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn comes from a generator on the CPU, and is sent to where it is wanted."""

    def sent(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *given, device="cpu", **named: draw(*given, **named).to(device)

    for name in ("rand", "randint"):
        monkeypatch.setattr(torch, name, sent(getattr(torch, name)))


def on_both(device: torch.device, change: Callable[[Tensor, Generator], Any], images: Tensor) -> tuple[Any, Any]:
    """What ``change`` makes on the device and on the CPU, with the same draws."""
    found, expected = (change(each, Generator().manual_seed(3)) for each in (images.to(device), images))
    return found, expected


@pytest.mark.usefixtures("draws_on_cpu")
@pytest.mark.parametrize("channels", [1, 3])
def test_cutmix_pastes_the_same_rectangles(device, channels: int) -> None:
    def change(images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        return paste(images, images.roll(1, 0), drawn(0, 1).to(images.device), generator)

    images = pictures(channels)
    (found, share), (expected, expected_share) = on_both(device, change, images)

    assert torch.equal(found.cpu(), expected)
    assert not torch.equal(found.cpu(), images)
    torch.testing.assert_close(share.cpu(), expected_share)


@pytest.mark.usefixtures("draws_on_cpu")
@pytest.mark.parametrize("channels", [1, 3])
def test_a_policy_shares_a_batch_out_alike(device, channels: int) -> None:
    images = pictures(channels)

    assert_alike(*on_both(device, random_policy, images))
