"""Corruptions of test images, each in five strengths, on the device of the images.

Noise, blur, brightness, contrast and JPEG are those of ImageNet-C, with its parameters (Hendrycks and Dietterich,
"Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019); small images have the
milder ones that its authors published for Tiny ImageNet-C and CIFAR-10-C. The rotation has the angles of MNIST-C (Mu
and Gilmer, "MNIST-C: A Robustness Benchmark for Computer Vision", 2019), and the occlusion is a gray square as in
Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014.

What is random is drawn for each image from its own pixels: an image is corrupted in the same way in every batch, split
and order, and in all strengths by the same noise, in the same direction and around the same place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from darkroom.data.augmentation.geometry import affine
from darkroom.data.digests import content_digest

STRENGTHS = 5
# Images whose shorter side has fewer pixels count as those of CIFAR-10-C (32) and of Tiny ImageNet-C (64).
SMALL, MEDIUM = 48, 128
# In standard deviations, as in scikit-image's Gaussian filter, which ImageNet-C uses.
REACH = 4.0
GRAY = 128


@dataclass(frozen=True)
class Draws:
    """What is random in the corruptions of N images: ``noise`` float [N, C, H, W], standard normal, and ``places``
    float [N, 3], from 0 to 1."""

    noise: Tensor
    places: Tensor


# Corrupts images uint8 [N, C, H, W] with a parameter.
Change = Callable[[Tensor, float, Draws], Tensor]


@dataclass(frozen=True)
class Corruption:
    """A corruption; ``unit`` says what its parameter is, and each tuple has the parameters of the five strengths."""

    change: Change
    unit: str
    small: tuple[float, ...]
    medium: tuple[float, ...]
    large: tuple[float, ...]

    def parameters(self, height: int, width: int) -> tuple[float, ...]:
        """The five parameters for images of this size."""
        side = min(height, width)
        return self.small if side < SMALL else self.medium if side < MEDIUM else self.large


def draw(images: Tensor) -> Draws:
    """The draws for ``images`` uint8 [N, C, H, W], on their device.

    They are drawn on the CPU, from generators that are seeded with the digests of the images.
    """
    noise = torch.empty(images.shape)
    places = torch.empty(len(images), 3)
    generator = Generator()
    for row, pixels in enumerate(images.cpu().numpy()):
        generator.manual_seed(int.from_bytes(content_digest(pixels.tobytes())[:8], "big"))
        places[row].uniform_(generator=generator)
        noise[row].normal_(generator=generator)
    return Draws(noise.to(images.device), places.to(images.device))


def add_noise(images: Tensor, deviation: float, draws: Draws) -> Tensor:
    """Add Gaussian noise of a standard ``deviation``, of pixels from 0 to 1."""
    return _to_bytes(images + 255 * deviation * draws.noise)


def blur(images: Tensor, sigma: float, draws: Draws) -> Tensor:
    """Blur with Gaussian weights of standard deviation ``sigma``, in pixels; the pixels at the edges are repeated."""
    down, across = (_blurring(size, sigma).to(images.device) for size in images.shape[-2:])
    return _to_bytes(down @ images.float() @ across.T)


def brighten(images: Tensor, share: float, draws: Draws) -> Tensor:
    """Add a ``share`` of 255 to the value (V) of the color space HSV."""
    value = images.amax(1, keepdim=True).float()
    raised = (value + 255 * share).clamp(max=255)
    # Black has no color that could be kept.
    return _to_bytes(torch.where(value > 0, images * (raised / value.clamp(min=1)), raised))


def reduce_contrast(images: Tensor, share: float, draws: Draws) -> Tensor:
    """Keep a ``share`` of each pixel's distance from the mean of its channel in the image."""
    means = images.float().mean((2, 3), keepdim=True)
    return _to_bytes((images - means) * share + means)


def rotate(images: Tensor, degrees: float, draws: Draws) -> Tensor:
    """Turn by ``degrees``, either way; the image mirrored at its edge comes in from outside."""
    turns = torch.where(draws.places[:, 0] < 0.5, -degrees, degrees)
    nothing = torch.zeros_like(turns)
    return affine(images, turns, nothing + 1, nothing, "reflection")


def compress(images: Tensor, quality: float, draws: Draws) -> Tensor:
    """Save as JPEG in this ``quality`` and read again, on the CPU."""
    # Takes seconds to import.
    from torchvision.transforms.v2.functional import jpeg

    compressed: Tensor = jpeg(images.cpu(), int(quality))
    return compressed.to(images.device)


def occlude(images: Tensor, share: float, draws: Draws) -> Tensor:
    """Cover a square, whose side is a ``share`` of the image's shorter side, somewhere in the image."""
    size = round(share * min(images.shape[-2:]))
    inside = []
    for dimension, place in zip(images.shape[-2:], draws.places[:, 1:].unbind(1), strict=True):
        first = (place * (dimension - size + 1)).floor()[:, None]
        pixels = torch.arange(dimension, device=images.device)
        inside.append((pixels >= first) & (pixels < first + size))
    covered = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(covered, images.new_tensor(GRAY), images)


def _blurring(size: int, sigma: float) -> Tensor:
    """The weight of each old pixel along a side in each new one: float [size, size]."""
    radius = int(REACH * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    weights = (-0.5 * (offsets / sigma) ** 2).softmax(0)
    places = (torch.arange(size)[:, None] + offsets).clamp(0, size - 1)
    return torch.zeros(size, size).scatter_add_(1, places, weights.expand(size, -1))


def _to_bytes(values: Tensor) -> Tensor:
    return values.round_().clamp_(0, 255).to(torch.uint8)


_LIGHT, _LESS = (0.1, 0.2, 0.3, 0.4, 0.5), (0.4, 0.3, 0.2, 0.1, 0.05)
# MNIST-C gives them in radians: 0.2 to 1.
_TURNS = (11.46, 22.92, 34.38, 45.84, 57.3)
_SIDES = (0.2, 0.3, 0.4, 0.5, 0.6)

CORRUPTIONS: Mapping[str, Corruption] = {
    "noise": Corruption(
        add_noise,
        "standard deviation, of pixels from 0 to 1",
        (0.04, 0.06, 0.08, 0.09, 0.1),
        (0.04, 0.08, 0.12, 0.15, 0.18),
        (0.08, 0.12, 0.18, 0.26, 0.38),
    ),
    "blur": Corruption(
        blur, "standard deviation, pixels", (0.4, 0.6, 0.7, 0.8, 1), (0.5, 0.75, 1, 1.25, 1.5), (1, 2, 3, 4, 6)
    ),
    "brightness": Corruption(brighten, "added, of pixels from 0 to 1", (0.05, 0.1, 0.15, 0.2, 0.3), _LIGHT, _LIGHT),
    "contrast": Corruption(reduce_contrast, "share that is left", (0.75, 0.5, 0.4, 0.3, 0.15), _LESS, _LESS),
    "rotation": Corruption(rotate, "degrees, either way", _TURNS, _TURNS, _TURNS),
    "JPEG": Corruption(compress, "quality", (80, 65, 58, 50, 40), (65, 58, 50, 40, 25), (25, 18, 15, 10, 7)),
    "occlusion": Corruption(occlude, "side of the square, of the shorter side", _SIDES, _SIDES, _SIDES),
}
