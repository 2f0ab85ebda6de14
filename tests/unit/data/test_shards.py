"""A split in several files: it is read as one in a single file is, and its files change no more than they must."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from darkroom.config.settings import Augment
from darkroom.data import cache, memmap
from darkroom.data.batches import CPU, TrainBatches, read_split
from darkroom.data.cache import SPLITS, DatasetCard
from darkroom.data.shards import HEADER_BYTES, Spread
from darkroom.errors import CacheError

COUNT, SHAPE = 40, (3, 5, 4)
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8)
LABELS = np.arange(COUNT) % 2
ROWS = {"train": np.arange(30), "val": np.arange(30, 36), "test": np.arange(36, 40)}
# As many images as a shard has in these tests.
EACH = 7
SMALL = HEADER_BYTES + EACH * (60 + 8)


def write(directory, labels=LABELS, rows=ROWS, shard_bytes=SMALL):
    directory.mkdir(exist_ok=True)
    return cache.write(
        directory, IMAGES, labels, rows, name="pets", classes=["a", "b"], names=[], settings={}, shard_bytes=shard_bytes
    )


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    directory = tmp_path_factory.mktemp("divided")
    return directory, write(directory)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    return directory, write(directory, shard_bytes=1 << 30)


def test_a_split_is_divided_into_files_of_no_more_bytes_than_allowed(divided):
    directory, card = divided
    assert [shard.images for shard in card.shards["train"]] == [7, 7, 7, 7, 2]
    assert card.shards["train"][0].file == "train-00001-of-00005.safetensors"
    assert [shard.file for shard in card.shards["test"]] == ["test.safetensors"]
    assert all(path.stat().st_size <= SMALL for path in directory.glob("*.safetensors"))


def test_its_images_are_those_of_one_file(divided, whole):
    for split in SPLITS:
        one, other = read_split(*divided, split), read_split(*whole, split)
        assert torch.equal(one.labels, other.labels)
        for (images, _), (expected, _) in zip(one.in_order(4, CPU), other.in_order(4, CPU), strict=True):
            assert torch.equal(images, expected)


def test_the_data_are_the_same_however_they_are_divided(divided, whole):
    assert divided[1].fingerprint == whole[1].fingerprint
    assert (divided[1].mean, divided[1].std) == (whole[1].mean, whole[1].std)


@given(st.lists(st.integers(0, 29), max_size=40), st.integers(-35, 35), st.integers(-35, 35), st.integers(1, 4))
def test_it_is_indexed_like_one_tensor(divided, whole, rows, start, end, step):
    images, tensor = read_split(*divided, "train").images, read_split(*whole, "train").images
    wanted = torch.tensor(rows, dtype=torch.int64)
    assert torch.equal(images.index_select(0, wanted), tensor.index_select(0, wanted))
    assert torch.equal(images[start:end:step], tensor[start:end:step])
    assert (images.shape, images.nbytes, len(images)) == (tensor.shape, tensor.nbytes, len(tensor))
    assert torch.equal(images.to(CPU), tensor)


@pytest.mark.parametrize("labels", [np.arange(20_000) // 2000, np.arange(20_000) % 10], ids=["sorted", "in turn"])
def test_each_file_has_some_of_every_class_however_the_split_is_sorted(labels):
    spread = Spread(20_000, 8)
    assert np.array_equal(np.sort(spread.rows), np.arange(20_000))
    assert np.array_equal(spread.rows[spread.places], np.arange(20_000))
    for own in np.split(labels[spread.rows], 8):
        assert np.allclose(np.bincount(own, minlength=10), 250, rtol=0.3)  # five standard deviations


def test_an_epoch_has_the_same_batches(divided, whole):
    one, other = (
        TrainBatches(read_split(*each, "train"), 8, Augment(flip="random"), seed=1) for each in (divided, whole)
    )
    for _ in range(2):
        for (images, labels), (same, equal) in zip(one, other, strict=True):
            assert torch.equal(images, same)
            assert torch.equal(labels, equal)


def test_its_pages_are_released_together(divided, monkeypatch):
    monkeypatch.setattr(memmap, "RESIDENT_BYTES", 1)
    split = read_split(*divided, "train")
    released = []
    for number, shard in enumerate(split.images._mapped):
        monkeypatch.setattr(shard, "release", lambda number=number: released.append(number))
    split.take(torch.tensor([0]), CPU)
    assert released == [0, 1, 2, 3, 4]


def test_another_label_changes_only_its_file(divided, tmp_path):
    before, _ = divided
    labels = LABELS.copy()
    labels[8] = 1 - labels[8]
    write(tmp_path, labels=labels)
    changed = [
        path.name for path in tmp_path.glob("*.safetensors") if path.read_bytes() != (before / path.name).read_bytes()
    ]
    assert len(changed) == 1


def test_a_missing_file_is_named(tmp_path):
    card = write(tmp_path)
    (tmp_path / "train-00003-of-00005.safetensors").unlink()
    with pytest.raises(CacheError, match=r"train-00003-of-00005\.safetensors: missing or damaged .*; run"):
        read_split(tmp_path, card, "train")


def test_files_in_another_order_are_refused(tmp_path):
    card = write(tmp_path)
    first, second = (tmp_path / shard.file for shard in card.shards["train"][:2])
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    with pytest.raises(CacheError, match=r"train-00001-of-00005\.safetensors: does not belong to .*dataset\.json; run"):
        read_split(tmp_path, card, "train")


def test_a_card_whose_files_lack_images_is_refused(tmp_path):
    write(tmp_path)
    path = tmp_path / "dataset.json"
    path.write_text(re.sub(r'"images": 2,', '"images": 1,', path.read_text(), count=1))
    with pytest.raises(CacheError, match=r"dataset\.json: damaged \(shards: not of train's images\); run `darkroom"):
        DatasetCard.read(tmp_path)
