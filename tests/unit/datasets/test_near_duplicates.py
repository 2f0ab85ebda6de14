"""Images that show the same picture are found, and different pictures are not."""

import io

import numpy as np
import pytest
from PIL import Image

from darkroom.datasets.near_duplicates import neighbors
from darkroom.datasets.near_duplicates.neighbors import Index
from darkroom.datasets.near_duplicates.search import find_pairs
from darkroom.datasets.near_duplicates.thumbnails import thumbnails
from darkroom.datasets.near_duplicates.windows import CENTER, Basis, Descriptors, Window

COUNT = 300


def pictures(count: int, side: int = 32, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Random pictures with details of every size, as photographs have them, and colors without details."""
    generator = np.random.default_rng(seed)
    found = np.zeros((count, channels, side, side))
    for cells in (2, 4, 8, 16):
        noise = generator.integers(0, 256, (count, channels if cells == 2 else 1, cells, cells), dtype=np.uint8)
        found += enlarge(noise, side) / cells
    return (found * (160 / found.max()) + 20).astype(np.uint8)


def enlarge(noise: np.ndarray, side: int) -> np.ndarray:
    planes = [
        Image.fromarray(plane).resize((side, side), Image.Resampling.BICUBIC) for image in noise for plane in image
    ]
    return np.stack([np.asarray(plane) for plane in planes]).reshape(*noise.shape[:2], side, side)


def each(images, change):
    changed = []
    for image in images:
        picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
        pixels = np.asarray(change(picture))
        changed.append(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
    return np.stack(changed)


def encode(picture):
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=75)
    return Image.open(stream)


def crop(picture):
    width, height = picture.size
    box = (0.02 * width, 0.08 * height, 0.92 * width, 0.98 * height)
    return picture.resize(picture.size, Image.Resampling.BILINEAR, box=box)


CHANGES = {
    "encoded": lambda images: each(images, encode),
    "brighter": lambda images: (images * 1.2).clip(0, 255).astype(np.uint8),
    "shifted": lambda images: np.pad(images, ((0, 0), (0, 0), (2, 0), (0, 2)))[:, :, :-2, 2:],
    "cropped": lambda images: each(images, crop),
    "mirrored": lambda images: images[..., ::-1],
}


def quiet(what, done, total):
    pass


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_nothing_else(tmp_path, change, channels):
    images = pictures(COUNT, channels=channels)
    copied = np.arange(0, COUNT, 10)
    together = np.concatenate([images, CHANGES[change](images[copied])])

    found = find_pairs(together, np.arange(len(together)), tmp_path, quiet)

    expected = set(zip(copied.tolist(), range(COUNT, len(together)), strict=True))
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == expected
    assert np.all((found.scores >= 0) & (found.scores < 0.2))


def test_only_the_given_rows_are_compared(tmp_path):
    images = pictures(100)
    together = np.concatenate([images, images[..., ::-1]])

    found = find_pairs(together, np.array([3, 50, 103, 170]), tmp_path, quiet)

    assert (found.first.tolist(), found.second.tolist()) == ([0], [2])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_images_are_enough(tmp_path, count):
    found = find_pairs(pictures(count), np.arange(count), tmp_path, quiet)
    assert len(found.first) == 0


def test_images_without_contrast_resemble_nothing(tmp_path):
    images = np.full((50, 3, 32, 32), 7, np.uint8) + np.arange(50, dtype=np.uint8)[:, None, None, None]
    found = find_pairs(images, np.arange(50), tmp_path, quiet)
    assert len(found.first) == 0


def test_large_images_are_compared_by_small_versions(tmp_path):
    images = pictures(60, side=96)
    together = np.concatenate([images, CHANGES["encoded"](images[:5])])

    found = find_pairs(together, np.arange(65), tmp_path, quiet)

    assert found.second.tolist() == [60, 61, 62, 63, 64]


def test_clusters_find_what_comparing_all_finds(tmp_path, monkeypatch):
    images = pictures(COUNT)
    together = np.concatenate([images, CHANGES["cropped"](images), CHANGES["mirrored"](images)])
    rows = np.arange(len(together))
    every = find_pairs(together, rows, tmp_path, quiet)
    monkeypatch.setattr(neighbors, "ALL_COMPARED", 1)

    clustered = find_pairs(together, rows, tmp_path, quiet)

    assert len(Index.build(Basis.fit(together).describe(together, [CENTER]).__next__()).centers) == 30
    assert len(clustered.first) >= 0.95 * len(every.first)


def test_a_descriptor_does_not_depend_on_brightness_and_contrast():
    images = pictures(20)
    basis = Basis.fit(images)
    (plain,) = basis.describe(images, [CENTER])
    (dull,) = basis.describe(images // 2 + 60, [CENTER])

    assert np.all(plain.pairwise(dull) > 0.98)
    np.testing.assert_allclose(plain.pairwise(plain), 1, rtol=1e-5)
    np.testing.assert_allclose(np.diag(plain.similarity(dull)), plain.pairwise(dull), rtol=1e-4)


def test_mirroring_changes_the_sign_of_the_odd_part():
    images = pictures(20)
    basis = Basis.fit(images)
    plain, mirrored = (next(basis.describe(each, [Window(right=0.0)])) for each in (images, images[..., ::-1]))

    np.testing.assert_allclose(mirrored.even, plain.even, atol=1e-4)
    np.testing.assert_allclose(mirrored.odd, -plain.odd, atol=1e-4)


def test_the_clusters_hold_every_item_once():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(6000, 8)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    index = Index.build(Descriptors(values[:, :4], values[:, 4:]))

    assert len(index.centers) == 77
    assert np.array_equal(np.sort(index.order), np.arange(6000))


def test_a_thumbnail_holds_the_means_of_its_parts(tmp_path):
    images = np.arange(2 * 64 * 48, dtype=np.uint64).reshape(2, 1, 64, 48).astype(np.uint8)

    small, rows = thumbnails(images, np.array([1]), tmp_path / "small")

    assert small.shape == (1, 1, 32, 32)
    assert rows.tolist() == [0]
    assert small.mean() == pytest.approx(images[1].mean(), abs=0.5)


def test_small_images_are_compared_as_they_are(tmp_path):
    images = pictures(3)
    small, rows = thumbnails(images, np.array([2, 0]), tmp_path / "small")
    assert small is images
    assert rows.tolist() == [2, 0]
