"""Random changes to a batch: each image draws its own, and a generator's state decides them all."""

import pytest
import torch
from tests.unit.data.draws import noise, seeded

from darkroom.config.settings import Augment
from darkroom.data.augmentation import augment, check_sizes, without_effect
from darkroom.data.augmentation.blur import random_blur
from darkroom.data.augmentation.color import random_brightness, random_contrast, random_hue, random_saturation
from darkroom.data.augmentation.crop import random_crop
from darkroom.data.augmentation.erasing import random_cutout, random_erasing
from darkroom.data.augmentation.geometry import random_affine, random_flip, random_translate
from darkroom.data.augmentation.policy import random_policy
from darkroom.errors import ConfigError

# In the order in which they happen.
CHANGES = {
    "flip": {"flip": "random"},
    "flip_vertical": {"flip_vertical": True},
    "crop": {"crop_scale": (0.3, 0.9), "crop_ratio": (0.5, 2.0)},
    "affine": {"rotate": 20.0, "scale": 0.2, "shear": 10.0},
    "translate": {"translate": 2, "padding": "reflect"},
    "policy": {"policy": "trivial"},
    "brightness": {"brightness": 0.4},
    "contrast": {"contrast": 0.4},
    "saturation": {"saturation": 0.4},
    "hue": {"hue": 0.2},
    "blur": {"blur": 1.5},
    "cutout": {"cutout": 3},
    "erasing": {"erasing": 0.5},
}
TOGETHER = {key: value for name, change in CHANGES.items() if name != "cutout" for key, value in change.items()}
each_change = pytest.mark.parametrize(
    "change", [*CHANGES.values(), {"rotate": 20.0}, {"scale": 0.2}, {"shear": 10.0}, TOGETHER], ids=str
)


@pytest.mark.parametrize("other", [{}, {"flip": "alternating"}, {"mixup": 1.0, "cutmix": 1.0}], ids=str)
def test_nothing_to_do_gives_the_very_same_images_and_draws_nothing(other):
    images, generator = noise((4, 1, 3, 3)), seeded(0)
    assert augment(images, Augment(**other), generator) is images
    assert torch.equal(generator.get_state(), seeded(0).get_state())


@pytest.mark.parametrize("shape", [(5, 1, 9, 6), (5, 3, 6, 9), (1, 3, 8, 8)], ids=str)
@each_change
def test_images_keep_their_shape_and_type(change, shape):
    found = augment(noise(shape), Augment(**change), seeded(0))
    assert found.shape == shape
    assert found.dtype == torch.uint8


@each_change
def test_the_originals_stay_as_they_are(change):
    images = noise((8, 3, 7, 5))
    before = images.clone()
    changed = augment(images, Augment(**change), seeded(0))
    changed.zero_()
    assert torch.equal(images, before)


@each_change
def test_the_same_state_gives_the_same_changes_and_another_gives_others(change):
    images = noise((16, 3, 8, 8))
    first, second, other = (augment(images, Augment(**change), seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@each_change
def test_the_next_batch_draws_anew(change):
    images, generator = noise((16, 3, 8, 8)), seeded(0)
    first, second = (augment(images, Augment(**change), generator) for _ in range(2))
    assert not torch.equal(first, second)


@each_change
def test_each_image_draws_its_own_change(change):
    images = noise((1, 3, 12, 12)).expand(64, 3, 12, 12)
    changed = augment(images, Augment(**change), seeded(0))
    # A coin has two sides, shifts are 25, and images that erasing spares are all alike.
    least = 2 if change in (CHANGES["flip"], CHANGES["flip_vertical"]) else 16
    assert len(changed.unique(dim=0)) >= least


@each_change
def test_what_becomes_of_an_image_does_not_depend_on_the_others(change):
    images, others = noise((6, 3, 8, 8), 0), noise((6, 3, 8, 8), 1)
    others[2] = images[2]
    found, beside_others = (augment(batch, Augment(**change), seeded(0)) for batch in (images, others))
    assert torch.equal(found[2], beside_others[2])
    assert not torch.equal(found, beside_others)


@pytest.mark.parametrize(
    ("change", "by_itself"),
    [
        ({"flip": "random"}, (random_flip, -1)),
        ({"flip_vertical": True}, (random_flip, -2)),
        ({"crop_scale": (0.3, 0.9)}, (random_crop, (0.3, 0.9), (0.75, 1.333))),
        ({"crop_scale": (0.3, 0.9), "crop_ratio": (0.5, 2.0)}, (random_crop, (0.3, 0.9), (0.5, 2.0))),
        ({"rotate": 20.0, "scale": 0.2, "shear": 10.0}, (random_affine, 20.0, 0.2, 10.0)),
        ({"rotate": 20.0}, (random_affine, 20.0, 0.0, 0.0)),
        ({"scale": 0.2}, (random_affine, 0.0, 0.2, 0.0)),
        ({"shear": 10.0}, (random_affine, 0.0, 0.0, 10.0)),
        ({"translate": 2}, (random_translate, 2, "black")),
        ({"translate": 2, "padding": "edge"}, (random_translate, 2, "edge")),
        ({"translate": 2, "padding": "reflect"}, (random_translate, 2, "reflect")),
        ({"policy": "trivial"}, (random_policy,)),
        ({"brightness": 0.4}, (random_brightness, 0.4)),
        ({"contrast": 0.4}, (random_contrast, 0.4)),
        ({"saturation": 0.4}, (random_saturation, 0.4)),
        ({"hue": 0.2}, (random_hue, 0.2)),
        ({"blur": 1.5}, (random_blur, 1.5)),
        ({"cutout": 3}, (random_cutout, 3)),
        ({"erasing": 0.5}, (random_erasing, 0.5)),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else value[0].__name__,
)
def test_a_setting_makes_its_own_change_of_the_size_it_says(change, by_itself):
    images, (make, *sizes) = noise((16, 3, 8, 7)), by_itself
    assert torch.equal(augment(images, Augment(**change), seeded(0)), make(images, *sizes, seeded(0)))


def test_several_changes_happen_in_turn_and_what_is_blanked_stays_blank():
    images, generator = noise((8, 3, 10, 9)), seeded(4)
    expected = images
    for name, change in CHANGES.items():
        if name != "cutout":
            expected = augment(expected, Augment(**change), generator)
    assert torch.equal(augment(images, Augment(**TOGETHER), seeded(4)), expected)


@pytest.mark.parametrize("color", [0, 93, 255])
@pytest.mark.parametrize(
    "key", ["flip", "flip_vertical", "crop", "brightness", "contrast", "saturation", "hue", "blur"]
)
def test_images_of_one_color_stay_of_one_color(key, color):
    flat = torch.full((20, 3, 9, 7), color, dtype=torch.uint8)
    flat[:, 1] = 40
    changed = augment(flat, Augment(**CHANGES[key]), seeded(0))
    assert torch.equal(changed, changed[..., :1, :1].expand_as(changed))
    if key in ("flip", "flip_vertical", "crop", "blur"):
        assert torch.equal(changed, flat)


@pytest.mark.parametrize("key", ["saturation", "hue"])
def test_colors_are_not_changed_of_images_without_any(key):
    images, generator = noise((4, 1, 5, 5)), seeded(0)
    settings = Augment(**CHANGES[key])
    assert augment(images, settings, generator) is images
    assert torch.equal(generator.get_state(), seeded(0).get_state())
    assert without_effect(settings, 1) == [key]
    assert without_effect(settings, 3) == []


def test_other_settings_have_an_effect_on_images_without_color():
    assert without_effect(Augment(**{**TOGETHER, "saturation": 0.0, "hue": 0.0}), 1) == []


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("channels", [1, 3])
@each_change
def test_a_change_on_a_gpu_stays_on_it_and_reads_nothing_from_it(gpu, change, channels):
    images = torch.zeros((6, channels, 9, 8), dtype=torch.uint8, device=gpu)
    changed = augment(images, Augment(**change), torch.Generator(gpu))
    assert (changed.device, changed.shape, changed.dtype) == (gpu, images.shape, torch.uint8)


# --- sizes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["translate", "cutout"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 20), (1, 20, 8)], ids=str)
@pytest.mark.parametrize("pixels", [8, 9, 40])
def test_a_change_that_leaves_nothing_is_refused(key, shape, pixels):
    message = (
        rf"^augment\.{key}: {pixels} pixels leave nothing of images of {shape[1]}x{shape[2]}; "
        "set it below 8, or 0 for none$"
    )
    with pytest.raises(ConfigError, match=message):
        check_sizes(Augment(**{key: pixels}), shape)


@pytest.mark.parametrize("key", ["translate", "cutout"])
def test_the_largest_change_that_leaves_something_is_taken_and_can_be_made(key):
    settings = Augment(**{key: 7})
    check_sizes(settings, (1, 8, 11))
    images = torch.where(noise((200, 1, 8, 11)) < 128, 1, 255).to(torch.uint8)
    left = (augment(images, settings, seeded(0)).unsqueeze(-1) == torch.tensor([1, 255])).any(-1)
    assert left.any(dim=(1, 2, 3)).all()


def test_no_change_fits_images_of_one_pixel():
    check_sizes(Augment(), (1, 1, 1))
    with pytest.raises(ConfigError, match=r"^augment\.cutout: 1 pixels leave nothing of images of 1x1; "):
        check_sizes(Augment(cutout=1), (1, 1, 1))
