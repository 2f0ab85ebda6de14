"""Each corruption is what an independent program makes of an image with the published formula and parameters."""

from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.stats import kstest

from darkroom.evaluation.corruptions import CORRUPTIONS, STRENGTHS, draw

# Of github.com/hendrycks/robustness: ImageNet-C/create_c/make_cifar_c.py, make_tinyimagenet_c.py and imagenet_c.
PUBLISHED = {
    32: {
        "noise": [0.04, 0.06, 0.08, 0.09, 0.10],
        "blur": [0.4, 0.6, 0.7, 0.8, 1],
        "brightness": [0.05, 0.1, 0.15, 0.2, 0.3],
        "contrast": [0.75, 0.5, 0.4, 0.3, 0.15],
        "JPEG": [80, 65, 58, 50, 40],
    },
    64: {
        "noise": [0.04, 0.08, 0.12, 0.15, 0.18],
        "blur": [0.5, 0.75, 1, 1.25, 1.5],
        "brightness": [0.1, 0.2, 0.3, 0.4, 0.5],
        "contrast": [0.4, 0.3, 0.2, 0.1, 0.05],
        "JPEG": [65, 58, 50, 40, 25],
    },
    224: {
        "noise": [0.08, 0.12, 0.18, 0.26, 0.38],
        "blur": [1, 2, 3, 4, 6],
        "brightness": [0.1, 0.2, 0.3, 0.4, 0.5],
        "contrast": [0.4, 0.3, 0.2, 0.1, 0.05],
        "JPEG": [25, 18, 15, 10, 7],
    },
}
SHAPES = [(4, 1, 28, 28), (4, 3, 32, 32), (3, 3, 60, 81), (2, 1, 130, 140), (2, 3, 150, 131)]


def pictures(shape):
    """Smooth pictures with black and white parts: JPEG is made for such ones."""
    generator = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(generator.normal(size=shape), (0, 0, 2.5, 2.5))
    return torch.from_numpy(np.clip(128 + 700 * smooth, 0, 255).astype(np.uint8))


@pytest.fixture(params=SHAPES, ids=str)
def images(request):
    return pictures(request.param)


def corrupted(name, images):
    """For each strength: its parameter, the draws, and the corrupted images as float64 [N, C, H, W]."""
    draws = draw(images)
    for parameter in CORRUPTIONS[name].parameters(*images.shape[-2:]):
        found = CORRUPTIONS[name].change(images, parameter, draws)
        assert (found.dtype, found.shape) == (torch.uint8, images.shape)
        yield parameter, draws, found.numpy().astype(np.float64)


def scaled(images):
    return images.numpy() / 255


@pytest.mark.parametrize("side", PUBLISHED)
def test_the_parameters_are_the_published_ones_for_images_of_about_this_size(side):
    found = {name: list(each.parameters(side, side + 9)) for name, each in CORRUPTIONS.items()}
    assert found | PUBLISHED[side] == found
    # MNIST-C gives radians.
    assert np.deg2rad(found["rotation"]) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0], abs=5e-4)
    assert {len(parameters) for parameters in found.values()} == {STRENGTHS}


def test_noise_is_added_and_cut_off_at_black_and_white(images):
    for deviation, draws, found in corrupted("noise", images):
        expected = 255 * np.clip(scaled(images) + deviation * draws.noise.numpy(), 0, 1)
        assert np.abs(found - expected).max() <= 0.501


def test_the_noise_is_normal_and_other_for_each_image():
    noise = draw(pictures((20, 3, 32, 32))).noise.numpy().reshape(20, -1)
    assert kstest(noise.ravel(), "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(noise) - np.eye(20)).max() < 0.1


def test_a_blur_is_scipys_which_scikit_image_uses(images):
    for sigma, _, found in corrupted("blur", images):
        expected = 255 * ndimage.gaussian_filter(scaled(images), (0, 0, sigma, sigma), mode="nearest", truncate=4.0)
        assert np.abs(found - expected).max() <= 0.51


def test_brightness_is_added_to_the_value_of_hsv(images):
    for share, _, found in corrupted("brightness", images):
        if images.shape[1] == 1:
            expected = scaled(images) + share
        else:
            colors = rgb_to_hsv(scaled(images).transpose(0, 2, 3, 1))
            colors[..., 2] = np.clip(colors[..., 2] + share, 0, 1)
            expected = hsv_to_rgb(colors).transpose(0, 3, 1, 2)
        assert np.abs(found - 255 * np.clip(expected, 0, 1)).max() <= 0.501


def test_contrast_is_kept_around_the_mean_of_each_channel(images):
    for share, _, found in corrupted("contrast", images):
        means = scaled(images).mean((2, 3), keepdims=True)
        expected = 255 * np.clip((scaled(images) - means) * share + means, 0, 1)
        assert np.abs(found - expected).max() <= 0.501


def test_a_rotation_is_scipys_with_the_mirrored_image_around_it(images):
    for degrees, draws, found in corrupted("rotation", images):
        for image, own, place in zip(scaled(images), found, draws.places[:, 0].tolist(), strict=True):
            # scipy turns counterclockwise.
            turn = degrees if place < 0.5 else -degrees
            expected = ndimage.rotate(image, turn, (2, 1), reshape=False, order=1, mode="reflect")
            assert np.abs(own - 255 * expected).max() <= 0.7


def test_about_half_of_the_images_are_turned_either_way_and_the_squares_are_everywhere():
    places = draw(pictures((200, 1, 9, 9))).places.numpy()
    assert kstest(places.ravel(), "uniform").pvalue > 0.01
    assert np.abs(np.corrcoef(places.T) - np.eye(3)).max() < 0.25


def test_jpeg_is_about_what_pillow_saves(images):
    for quality, _, found in corrupted("JPEG", images):
        for image, own in zip(images.numpy(), found, strict=True):
            saved = BytesIO()
            picture = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
            Image.fromarray(picture).save(saved, "JPEG", quality=quality)
            expected = np.asarray(Image.open(saved)).astype(np.float64)
            expected = expected[None] if len(image) == 1 else expected.transpose(2, 0, 1)
            # The libraries round differently, by a small part of what the compression changes.
            assert np.abs(own - expected).mean() < 0.1 * np.abs(image - expected).mean()


def test_an_occlusion_is_a_gray_square_inside_the_image(images):
    height, width = images.shape[-2:]
    for share, draws, found in corrupted("occlusion", images):
        size = round(share * min(height, width))
        for image, own, (_, down, right) in zip(images.numpy(), found, draws.places.tolist(), strict=True):
            top, left = int(down * (height - size + 1)), int(right * (width - size + 1))
            for channel, covered in zip(image, own, strict=True):
                picture = Image.fromarray(channel)
                ImageDraw.Draw(picture).rectangle((left, top, left + size - 1, top + size - 1), fill=128)
                assert np.array_equal(covered, np.asarray(picture))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_in_the_same_way_in_every_batch_and_order(name):
    images = pictures((6, 3, 32, 32))
    for parameter in CORRUPTIONS[name].parameters(32, 32):
        together = CORRUPTIONS[name].change(images, parameter, draw(images))
        some = images[[4, 1]]
        apart = CORRUPTIONS[name].change(some, parameter, draw(some))
        # Sums in another order may round differently.
        assert (together[[4, 1]].int() - apart.int()).abs().max() <= 1
        assert torch.equal(together, CORRUPTIONS[name].change(images.clone(), parameter, draw(images.clone())))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_stronger_corruption_changes_more(name):
    images = pictures((8, 3, 64, 64))
    changes = [np.abs(found - images.numpy()).mean() for _, _, found in corrupted(name, images)]
    assert changes == sorted(changes)
    assert changes[0] > 0


@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (2, 3, 1, 9), (1, 3, 8, 8)])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_smallest_images_can_be_corrupted(name, shape):
    assert len(list(corrupted(name, pictures(shape)))) == STRENGTHS


def test_blur_and_brightness_are_those_of_scikit_image(images):
    from skimage.color import hsv2rgb, rgb2hsv
    from skimage.filters import gaussian

    for sigma, _, found in corrupted("blur", images):
        expected = np.stack([gaussian(image, sigma=sigma, channel_axis=0) for image in scaled(images)])
        assert np.abs(found - 255 * np.clip(expected, 0, 1)).max() <= 0.51
    if images.shape[1] == 3:
        for share, _, found in corrupted("brightness", images):
            colors = rgb2hsv(scaled(images), channel_axis=1)
            colors[:, 2] = np.clip(colors[:, 2] + share, 0, 1)
            assert np.abs(found - 255 * hsv2rgb(colors, channel_axis=1)).max() <= 0.501
