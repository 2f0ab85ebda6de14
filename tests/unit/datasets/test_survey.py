"""The shape that a dataset's images are brought to, and what is said of how that changes them."""

import io

import numpy as np
import pytest
from PIL import Image
from tests.unit.datasets.folders import decoded
from tests.unit.images.image_files import encoded, tiff


def strip(width, height, mark):
    """A black picture with a white mark of a tenth of its width, at its left or right end."""
    pixels = np.zeros((height, width), dtype=np.uint8)
    tenth = width // 10
    pixels[:, :tenth] = 255 * (mark == "left")
    pixels[:, -tenth:] = 255 * (mark == "right")
    return encoded(pixels)


def dataset(width, height):
    return {f"{mark}/{number}.png": strip(width, height, mark) for mark in ("left", "right") for number in range(2)}


@pytest.mark.parametrize(
    ("width", "height", "expected"), [(600, 400, (52, 80)), (400, 600, (80, 52)), (800, 80, (20, 204))]
)
def test_large_pictures_of_one_shape_keep_it_and_both_of_their_ends(tmp_path, width, height, expected):
    images = decoded(tmp_path, dataset(width, height)).images
    assert images.shape == (4, 1, *expected)
    ends = images[:, 0, expected[0] // 2, [expected[1] // 20, -1 - expected[1] // 20]]
    assert (ends > 127).tolist() == [[True, False]] * 2 + [[False, True]] * 2


def test_small_pictures_of_one_size_are_kept_as_they_are(tmp_path):
    found = decoded(tmp_path, dataset(400, 40))
    assert found.images.shape == (4, 1, 40, 400)
    assert not found.notes


@pytest.mark.parametrize(
    ("fit", "told"),
    [
        ("crop", "crop to 64x64 cuts 90% of the median picture away; pad keeps all of it"),
        ("pad", "pad to 64x64 adds bars to the median picture, 90% of the result; crop or stretch fill it"),
        ("stretch", "stretch to 64x64 changes the proportions of the median picture by 900%; pad keeps them"),
    ],
)
def test_what_is_lost_of_the_median_picture_is_told(tmp_path, fit, told):
    (note,) = decoded(tmp_path, dataset(400, 40), fit=fit, image_size=[64, 64]).notes
    assert note == f"preprocess.fit: {told}"


def test_further_pages_are_counted_and_the_first_is_read(tmp_path):
    stream = io.BytesIO()
    first, second = (Image.new("L", (8, 8), level) for level in (10, 200))
    first.save(stream, "TIFF", save_all=True, append_images=[second])
    found = decoded(tmp_path, {"a/1.tif": stream.getvalue(), "b/1.png": encoded(np.full((8, 8), 90, np.uint8))})
    assert found.notes == ("1 file holds several pictures or pages; the first of each is read",)
    assert [np.unique(image).tolist() for image in found.images] == [[10], [90]]


@pytest.mark.parametrize(("bands", "channels"), [((3,), 1), ((3, 0, 1), 3)])
def test_the_bands_that_are_chosen_decide_the_channels(tmp_path, bands, channels):
    values = np.random.default_rng(1).integers(0, 256, (2, 6, 6, 4), dtype=np.uint8)
    files = {f"{kind}/1.tif": tiff(pixels, 2) for kind, pixels in zip("ab", values, strict=True)}
    images = decoded(tmp_path, files, bands=list(bands)).images
    assert images.shape == (2, channels, 6, 6)
    assert np.array_equal(images, values[..., bands].transpose(0, 3, 1, 2))
