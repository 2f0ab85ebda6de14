"""Arrays in files: the same numbers as in memory, without the memory."""

from pathlib import Path

import numpy as np
import pytest

from darkroom.data import memmap
from darkroom.data.memmap import allocate, gather, release

SMAPS = Path("/proc/self/smaps")
PIXELS = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 5), dtype=np.uint8)


def in_file(path):
    images = allocate(path, PIXELS.shape)
    images[:] = PIXELS
    return images


def resident(images):
    """The bytes of a mapped array that take memory of this process."""
    inside = False
    for line in SMAPS.read_text().splitlines():
        if line.endswith(str(images.filename)):
            inside = True
        elif inside and line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{images.filename} is not mapped")


@pytest.mark.parametrize("chunk_bytes", [1, 100, 10**6])
@pytest.mark.parametrize("rows", [range(50), [3, 49, 0, 7], []])
def test_rows_are_gathered_in_their_order(tmp_path, monkeypatch, chunk_bytes, rows):
    monkeypatch.setattr(memmap, "CHUNK_BYTES", chunk_bytes)
    rows = np.array(rows, dtype=np.int64)
    for images in (PIXELS, in_file(tmp_path / "images.bin")):
        found = [chunk.copy() for chunk in gather(images, rows)]
        assert np.array_equal(np.concatenate([PIXELS[:0], *found]), PIXELS[rows])


def test_gathered_rows_lie_in_one_piece_however_the_images_lie():
    turned = PIXELS.transpose(0, 2, 3, 1)
    (found,) = gather(turned, np.arange(50))
    assert found.flags.c_contiguous
    assert np.array_equal(found, turned)


def test_what_was_written_stays_when_its_memory_is_given_back(tmp_path):
    images = in_file(tmp_path / "images.bin")
    release(images[:10])
    assert np.array_equal(images, PIXELS)
    assert (tmp_path / "images.bin").read_bytes() == PIXELS.tobytes()


@pytest.mark.skipif(not SMAPS.exists(), reason="only Linux tells")
def test_reading_all_rows_takes_no_memory_for_all(tmp_path):
    images = allocate(tmp_path / "images.bin", (64, 1, 1024, 1024))
    for _ in gather(images, np.arange(64)):
        assert resident(images) <= 8 << 20
    assert resident(images) == 0


def test_arrays_in_memory_are_left_as_they_are():
    before = PIXELS.copy()
    release(PIXELS)
    assert np.array_equal(PIXELS, before)
