"""Random changes to a batch of images, drawn per image, on the device, in whole-batch operations.

torchvision's own transforms draw once for a whole batch; these draw for each image of it. The changes
themselves follow torchvision's definitions image by image.
"""

from torch import Generator, Tensor

from darkroom.config.settings import Augment
from darkroom.data.augmentation.blur import random_blur
from darkroom.data.augmentation.color import random_brightness, random_contrast, random_hue, random_saturation
from darkroom.data.augmentation.crop import random_crop
from darkroom.data.augmentation.erasing import random_cutout, random_erasing
from darkroom.data.augmentation.geometry import random_affine, random_flip, random_translate
from darkroom.data.augmentation.policy import random_policy
from darkroom.errors import ConfigError

# Settings without effect on images of one channel.
COLOR_ONLY = ("saturation", "hue")


def check_sizes(settings: Augment, shape: tuple[int, int, int]) -> None:
    """Refuse changes that leave nothing of images of ``shape`` (channels, height, width). Raises ConfigError."""
    side = min(shape[1:])
    for key, pixels in (("translate", settings.translate), ("cutout", settings.cutout)):
        if pixels >= side:
            raise ConfigError(
                f"augment.{key}: {pixels} pixels leave nothing of images of {shape[1]}x{shape[2]}; "
                f"set it below {side}, or 0 for none"
            )


def without_effect(settings: Augment, channels: int) -> list[str]:
    """The settings that have no effect because images of ``channels`` channels have no color to change."""
    return [key for key in COLOR_ONLY if channels == 1 and getattr(settings, key)]


def augment(images: Tensor, settings: Augment, generator: Generator) -> Tensor:
    """A changed copy of ``images`` uint8 [N, C, H, W] (or the images themselves if nothing is to be done).

    Mirroring in alternation is not done here: it depends on the epoch. Mixing images is not either: it
    changes the labels as well. Saturation and hue are changed of three channels only.
    """
    in_color = images.shape[1] == 3
    if settings.flip == "random":
        images = random_flip(images, -1, generator)
    if settings.flip_vertical:
        images = random_flip(images, -2, generator)
    if settings.crop_scale:
        images = random_crop(images, settings.crop_scale, settings.crop_ratio, generator)
    if settings.rotate or settings.scale or settings.shear:
        images = random_affine(images, settings.rotate, settings.scale, settings.shear, generator)
    if settings.translate:
        images = random_translate(images, settings.translate, settings.padding, generator)
    if settings.policy == "trivial":
        images = random_policy(images, generator)
    if settings.brightness:
        images = random_brightness(images, settings.brightness, generator)
    if settings.contrast:
        images = random_contrast(images, settings.contrast, generator)
    if settings.saturation and in_color:
        images = random_saturation(images, settings.saturation, generator)
    if settings.hue and in_color:
        images = random_hue(images, settings.hue, generator)
    if settings.blur:
        images = random_blur(images, settings.blur, generator)
    if settings.cutout:
        images = random_cutout(images, settings.cutout, generator)
    if settings.erasing:
        images = random_erasing(images, settings.erasing, generator)
    return images
