"""Heat maps as pictures: the opacity of the layer is the heat, and the image below stays visible."""

import io

import numpy as np
import pytest
from PIL import Image

from darkroom.explanation.picture import LITTLE, MUCH, beside, heat_layer, png, tinted

HEAT = np.array([[0, 0.5, 1], [0.2, 0, 0]], np.float32)


def test_the_opacity_of_a_layer_is_the_heat_and_its_color_goes_from_yellow_to_red() -> None:
    layer = heat_layer(HEAT)

    assert layer.dtype == np.uint8
    assert layer[..., 3].tolist() == [[0, 128, 255], [51, 0, 0]]
    assert tuple(layer[0, 0, :3]) == LITTLE
    assert tuple(layer[0, 2, :3]) == MUCH


def test_a_png_holds_the_layer_exactly() -> None:
    layer = heat_layer(HEAT)

    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(Image.fromarray(layer))))), layer)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_tinted_where_there_is_heat_and_gray_elsewhere(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (channels, 2, 3), dtype=np.uint8)

    found = tinted(image, HEAT)

    cold, hot = found[:, HEAT == 0], found[:, 0, 2].astype(int)
    gray = np.asarray(Image.fromarray(image[0] if channels == 1 else image.transpose(1, 2, 0)).convert("L"))
    assert found.shape == (3, 2, 3)
    assert np.abs(cold - gray[HEAT == 0].astype(int)).max() <= 1
    assert hot[0] > hot[1:].max() + 50  # red


def test_two_images_with_other_pixels_still_differ_where_it_is_hottest() -> None:
    bright, dark = (tinted(np.full((1, 2, 3), shade, np.uint8), HEAT)[:, 0, 2] for shade in (255, 0))

    assert (bright.astype(int) - dark > 30).all()


@pytest.mark.parametrize(("side", "times"), [(8, 28), (28, 8), (224, 1), (300, 1)])
def test_small_images_are_enlarged_pixel_by_pixel(side: int, times: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, side, side), dtype=np.uint8)

    picture = np.asarray(beside(image, np.zeros((side, side), np.float32)))

    assert picture.shape == (side * times, 2 * side * times, 3)
    assert np.array_equal(picture[::times, : side * times : times], image.transpose(1, 2, 0))
