"""Images in a file are read as they are, and few of them stay in memory."""

import numpy as np
import psutil
import pytest
import torch

from darkroom.config.settings import Augment
from darkroom.data import batches, memmap
from darkroom.data.batches import CPU, Split, TrainBatches, place
from darkroom.data.memmap import MappedImages

OFFSET = 100
SHAPE = (12, 3, 5, 4)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)


@pytest.fixture
def path(tmp_path, pixels):
    file = tmp_path / "images"
    file.write_bytes(b"x" * OFFSET + pixels.tobytes())
    return file


@pytest.fixture
def bounded(monkeypatch):
    """As if every dataset were large."""
    monkeypatch.setattr(memmap, "RESIDENT_BYTES", 1)


def test_the_images_are_those_in_the_file(path, pixels):
    assert torch.equal(MappedImages(path, SHAPE, OFFSET).tensor, torch.from_numpy(pixels))


def test_they_are_the_same_after_pages_were_given_back(path, pixels, bounded):
    mapped = MappedImages(path, SHAPE, OFFSET)
    mapped.expect_any_order()
    for _ in range(3):
        assert torch.equal(mapped.tensor, torch.from_numpy(pixels))
        mapped.touched(len(pixels))


def test_the_file_is_never_written(path, bounded):
    before = path.read_bytes()
    mapped = MappedImages(path, SHAPE, OFFSET)
    mapped.tensor.zero_()
    mapped.touched(1)

    assert path.read_bytes() == before


def test_an_epoch_over_a_large_file_holds_little_of_it_in_memory(tmp_path, monkeypatch):
    bound = 8 << 20
    monkeypatch.setattr(memmap, "RESIDENT_BYTES", bound)
    shape = (2000, 3, 128, 128)  # 94 MiB
    file = tmp_path / "images"
    with file.open("wb") as opened:
        opened.truncate(int(np.prod(shape)))  # a sparse file: its pages take no room on the disk
    mapped = MappedImages(file, shape, 0)
    split = Split(mapped.tensor, torch.arange(shape[0]), mapped)
    process = psutil.Process()
    before = process.memory_info().rss
    most = 0
    for images, _ in TrainBatches(split, 20, Augment(), 0):
        most = max(most, process.memory_info().rss - before)
        del images
    for _ in split.in_order(20, CPU):
        most = max(most, process.memory_info().rss - before)

    assert most < 4 * bound  # the batches themselves, and the allocator's room, are in it


def test_small_files_stay_mapped(path, monkeypatch):
    """Giving their pages back would save nothing and cost time."""
    mapped = MappedImages(path, SHAPE, OFFSET)
    monkeypatch.setattr(mapped, "_mapping", None)

    mapped.expect_any_order()
    mapped.touched(10**9)


@pytest.mark.parametrize(("free", "stays"), [(1000, True), (10_000_000, False)])
def test_a_split_that_does_not_fit_on_the_device_stays_where_it_is(monkeypatch, path, free, stays):
    monkeypatch.setattr(batches, "_free_bytes", lambda device: float(free))
    mapped = MappedImages(path, SHAPE, OFFSET)
    split = Split(mapped.tensor, torch.arange(SHAPE[0]), mapped)
    (moved,) = place(torch.device("meta"), split)

    assert (moved is split) == stays
    assert moved.images.device.type == ("cpu" if stays else "meta")


def test_splits_share_the_memory_that_is_free_and_leave_half_of_it_to_the_model(monkeypatch):
    splits = [Split(torch.zeros((count, 1, 2, 5), dtype=torch.uint8), torch.zeros(count)) for count in (3, 2, 1)]
    monkeypatch.setattr(batches, "_free_bytes", lambda device: 85.0)
    moved = place(torch.device("meta"), *splits)

    assert [each.images.device.type for each in moved] == ["meta", "cpu", "meta"]


def test_batches_of_a_split_that_stays_are_sent_to_the_device(path):
    mapped = MappedImages(path, SHAPE, OFFSET)
    split = Split(mapped.tensor, torch.arange(SHAPE[0]), mapped)
    meta = torch.device("meta")

    assert {part.device.type for batch in split.in_order(5, meta) for part in batch} == {"meta"}
    assert {part.device.type for part in split.take(torch.tensor([3, 1]), meta)} == {"meta"}


def test_gathering_several_batches_at_once_gives_the_same_batches(monkeypatch, path):
    mapped = MappedImages(path, SHAPE, OFFSET)
    split = Split(mapped.tensor, torch.arange(SHAPE[0]), mapped)
    for flip in ("none", "alternating"):
        one, several = (TrainBatches(split, 5, Augment(flip=flip), 0) for _ in range(2))
        monkeypatch.setattr(several, "_block", lambda: 10)
        for expected, found in zip(one, several, strict=True):
            assert all(map(torch.equal, expected, found))


@pytest.mark.parametrize(("batch_size", "block"), [(2, 8), (3, 9), (100, 12)])
def test_a_gpu_is_given_whole_batches_up_to_a_bound(monkeypatch, path, batch_size, block):
    mapped = MappedImages(path, SHAPE, OFFSET)
    split = Split(mapped.tensor, torch.arange(SHAPE[0]), mapped)
    batches_of_a_gpu = TrainBatches(split, batch_size, Augment(), 0)
    monkeypatch.setattr(batches, "BLOCK_BYTES", 9 * 60)
    batches_of_a_gpu.device = torch.device("cuda")

    assert batches_of_a_gpu._block() == block
