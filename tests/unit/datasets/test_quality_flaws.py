"""Dark, bright, blurred images, of one color, of odd sizes and shapes: named where a person would, and only there."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from darkroom.data import memmap
from darkroom.datasets.quality.flaws import BLURRED, find_flaws
from darkroom.datasets.quality.measures import Measures
from darkroom.images.decoder import Decoder

COUNT = 200
CHANGED = (3, 50, 133)


def pictures(channels=3, side=32, count=COUNT, seed=0):
    """Light discs and bars on a dark ground, with sharp edges: uint8 [count, channels, side, side]."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    images = np.empty((count, channels, side, side), dtype=np.uint8)
    for image in images:
        image[:] = generator.integers(0, 90, (channels, 1, 1))
        for color in generator.integers(160, 256, (3, channels, 1, 1)):
            center, slope = generator.uniform(side / 4, 3 * side / 4, 2), generator.normal(size=2)
            radius = generator.uniform(side / 16, side / 3)
            inside = (y - center[0]) ** 2 + (x - center[1]) ** 2 < radius**2
            bar = np.abs((y - center[0]) * slope[0] + (x - center[1]) * slope[1]) < 2 * np.hypot(*slope)
            image[:] = np.where(inside | (bar & (generator.random() < 0.5)), color, image)
    return images


def measured(images, **options):
    return Measures.of(images, np.arange(len(images)), **options)


def named(images, **options):
    return {(flaw.kind, flaw.position) for flaw in find_flaws(measured(images), **options)}


def clipped(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


CHANGES = {
    "dark": lambda image: clipped(image * 0.2),
    "bright": lambda image: clipped(255 - (255.0 - image) * 0.2),
    "one color": lambda image: clipped(120 + (image - 120.0) * 0.02),
    "blurred": lambda image: clipped(gaussian_filter(image.astype(float), (0, 3, 3))),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [28, 64])
def test_sound_pictures_are_not_named(channels, side):
    assert named(pictures(channels, side)) == set()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", CHANGES)
def test_flawed_pictures_are_named_with_their_kind_alone(kind, channels):
    images = pictures(channels)
    images[list(CHANGED)] = [CHANGES[kind](image) for image in images[list(CHANGED)]]
    assert named(images) == {(kind, row) for row in CHANGED}


@pytest.mark.parametrize("kind", CHANGES)
def test_all_pictures_of_a_bad_camera_are_named(kind):
    images = pictures()
    bad = [row for row in range(COUNT) if row % 9 < 4]
    images[bad] = [CHANGES[kind](image) for image in images[bad]]
    assert named(images) == {(kind, row) for row in bad}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_is_usual_in_a_dataset_is_no_flaw(kind):
    assert named(np.stack([CHANGES[kind](image) for image in pictures()])) == set()


def test_the_worst_comes_first_and_scores_most():
    images = pictures()
    for row, factor in zip(CHANGED, (0.2, 0.02, 0.1), strict=True):
        images[row] = clipped(images[row] * factor)
    found = [flaw for flaw in find_flaws(measured(images)) if flaw.kind == "dark"]
    assert [flaw.position for flaw in found] == [CHANGED[2], CHANGED[0]]  # the other one is of one color
    assert 1 > found[0].score > found[1].score >= 0.5
    assert found[0].reason.startswith("99 % of its values are at most ")


def test_a_picture_in_a_saturated_color_is_not_dark():
    images = pictures()
    images[7] = 0
    images[7, 2, 8:24, 8:24] = 200  # blue, whose lightness is low
    assert named(images) == set()


def test_an_edge_is_measured_as_the_gaussian_that_blurs_it_says():
    edge = np.zeros((1, 1, 64, 64))
    edge[..., 32:] = 200
    for sigma in (1, 2, 4):
        image = clipped(gaussian_filter(edge, (0, 0, 0, sigma)))
        assert measured(image).sharpness == pytest.approx(0.4 / sigma, rel=0.08)
    assert measured(edge.astype(np.uint8)).sharpness == 1


def test_bars_beside_a_blurred_picture_do_not_make_it_sharp():
    image = clipped(gaussian_filter(pictures(count=1).astype(float), (0, 0, 3, 3)))
    padded = np.zeros((1, 3, 48, 32), dtype=np.uint8)
    padded[:, :, 8:40] = image
    sizes = np.array([[320, 320]])
    with_bars, without = (
        measured(padded, decoder=Decoder(3, (48, 32), fit), original_sizes=sizes) for fit in ("crop", "pad")
    )
    assert with_bars.sharpness > BLURRED > without.sharpness


def test_blocks_and_rows_do_not_change_what_is_measured(monkeypatch):
    images, rows = pictures(count=40), np.random.default_rng(1).permutation(40)[:30]
    whole = Measures.of(images, rows)
    monkeypatch.setattr(memmap, "CHUNK_BYTES", 7 * images[0].nbytes)
    for name, values in vars(Measures.of(images, rows)).items():
        assert np.array_equal(values, getattr(whole, name))
        assert np.array_equal(values, getattr(measured(images), name)[rows])


# --- sizes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        ((100, 130), {"odd size"}), ((2000, 2600), {"odd size"}), ((300, 1400), {"odd shape"}),
        ((1000, 200), {"odd shape"}), ((400, 300), set()), ((220, 290), set()), ((40, 400), {"odd size", "odd shape"}),
    ],
)  # fmt: skip
def test_sizes_and_shapes_far_from_the_others_are_odd(size, kind):
    generator = np.random.default_rng(0)
    sizes = np.rint(np.array([300, 400]) * generator.uniform(0.9, 1.1, (200, 1))).astype(np.int64)
    sizes[20] = size
    found = find_flaws(measured(pictures(count=200)), sizes)
    assert {(flaw.kind, flaw.position) for flaw in found} == {(each, 20) for each in kind}
    assert all(0.5 <= flaw.score < 1 and f"{size[1]}x{size[0]} pixels" in flaw.reason for flaw in found)


def test_a_second_usual_size_is_not_odd():
    sizes = np.full((200, 2), 300)
    sizes[:10] = [3000, 300]
    assert find_flaws(measured(pictures(count=200)), sizes) == []
