"""A dataset larger than the disk: its train images arrive while they are read, and never too many of them."""

import shutil
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch

from darkroom.config import parse
from darkroom.config.settings import Augment
from darkroom.data import cache
from darkroom.data.batches import CPU, TrainBatches, read_split
from darkroom.data.shard_store import ShardStore
from darkroom.data.shards import HEADER_BYTES, shard_bytes
from darkroom.data.streaming import open_store
from darkroom.errors import CacheError, ConfigError
from darkroom.utils.units import GIGABYTE
from darkroom.workspace import Workspace

COUNT, SHAPE, EACH = 140, (3, 5, 4), 10
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8)
LABELS = np.arange(COUNT) * 2 // COUNT
ROWS = {"train": np.arange(100), "val": np.arange(100, 120), "test": np.arange(120, 140)}
ROOM = HEADER_BYTES + EACH * 68  # of one shard


class Remote:
    """As DVC's file system of a project reads its files from a remote."""

    def __init__(self, files: Path) -> None:
        self.files = files
        self.fetched: list[str] = []

    def get_file(self, name: str, target: str) -> None:
        assert name.startswith("data/processed/pets/")
        self.fetched.append(Path(name).name)
        shutil.copyfile(self.files / Path(name).name, target)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    written = cache.write(
        directory, IMAGES, LABELS, ROWS, name="pets", classes=["a", "b"], names=[], settings={}, shard_bytes=ROOM
    )
    return directory, written


@pytest.fixture
def remote(whole, monkeypatch):
    remote = Remote(whole[0])
    monkeypatch.setattr(ShardStore, "_remote", cached_property(lambda store: remote))
    ShardStore._remote.__set_name__(ShardStore, "_remote")
    return remote


@pytest.fixture
def workspace(whole, remote, tmp_path):
    """A project with the list of the files, and none of them."""
    workspace = Workspace(tmp_path)
    directory = workspace.processed("pets")
    directory.mkdir(parents=True)
    for name in ("dataset.json", "files.csv"):
        shutil.copyfile(whole[0] / name, directory / name)
    return workspace


@pytest.fixture
def streamed(workspace, whole):
    """Opens the train split with room for so many shards, beside val's two."""
    opened = []

    def open_(shards: int):
        store = open_store((2 + shards) * ROOM / GIGABYTE, workspace, whole[1], ("train", "val"))
        opened.append(store)
        entered = store.__enter__()
        read_split(workspace.processed("pets"), whole[1], "val", entered)
        return read_split(workspace.processed("pets"), whole[1], "train", entered)

    yield open_
    for each in opened:
        each.__exit__(None, None, None)


def files(workspace):
    return sorted(path.name for path in workspace.streamed.rglob("*.safetensors"))


def train_bytes(workspace):
    return sum(path.stat().st_size for path in workspace.streamed.rglob("train-*.safetensors"))


def batches(split, seed=0, size=8):
    return TrainBatches(split, size, Augment(), seed)


def test_an_epoch_has_each_image_once_with_its_label(streamed, whole):
    expected = read_split(*whole, "train")
    rows = {image.numpy().tobytes(): row for row, image in enumerate(expected.images[:])}
    epochs = batches(streamed(4))
    orders = []
    for _ in range(3):
        order = []
        for images, labels in epochs:
            order += [rows[image.numpy().tobytes()] for image in images]
            assert torch.equal(labels, expected.labels[torch.tensor(order[-len(labels) :])])
        assert sorted(order) == list(range(100))
        orders.append(order)
    assert orders[0] != orders[1] != orders[2]


def test_no_more_is_on_the_disk_than_allowed(streamed, workspace):
    epochs = batches(streamed(4))
    for _ in range(2):
        for _ in epochs:
            assert train_bytes(workspace) <= 4 * ROOM


def test_each_file_is_downloaded_once_an_epoch(streamed, remote):
    epochs = batches(streamed(4))
    list(epochs)
    assert sorted(name for name in remote.fetched if "train" in name) == sorted(
        f"train-{number:05}-of-00010.safetensors" for number in range(1, 11)
    )


def test_images_of_several_files_are_shuffled_together(streamed, whole):
    split = streamed(6)
    assert split.images.group == 3
    rows = split.images.draw_order(torch.Generator().manual_seed(0))
    assert len(split.images._shard_of(rows[:30]).unique()) == 3
    assert len(split.images._shard_of(rows[:10]).unique()) > 1


def test_the_order_is_that_of_the_seed(streamed):
    first, second, other = (torch.cat([images for images, _ in batches(streamed(4), seed)]) for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_training_resumes_with_the_same_order(streamed):
    whole_training = batches(streamed(4))
    list(whole_training)
    state, epoch = whole_training.generator.get_state(), whole_training.epoch
    expected = torch.cat([images for images, _ in whole_training])
    resumed = batches(streamed(4))
    resumed.generator.set_state(state)
    resumed.epoch = epoch
    assert torch.equal(torch.cat([images for images, _ in resumed]), expected)


def test_val_is_kept_for_all_epochs(streamed, workspace, remote):
    list(batches(streamed(2)))
    assert len([name for name in files(workspace) if "val" in name]) == 2
    assert len([name for name in remote.fetched if "val" in name]) == 2


def test_what_an_earlier_training_left_is_used(streamed, workspace, remote):
    list(batches(streamed(4)))
    left = {name for name in files(workspace) if "val" in name}
    remote.fetched.clear()
    streamed(4)
    assert not left & set(remote.fetched)


def test_files_that_are_here_are_not_downloaded(streamed, workspace, whole, remote):
    for number in (1, 2, 3):
        name = f"train-{number:05}-of-00010.safetensors"
        shutil.copyfile(whole[0] / name, workspace.processed("pets") / name)
    list(batches(streamed(4)))
    assert len([name for name in remote.fetched if "train" in name]) == 7


def test_a_damaged_rest_of_an_earlier_training_is_replaced(streamed, workspace, whole):
    split = streamed(4)
    list(batches(split))
    for path in workspace.streamed.rglob("train-*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    rows = torch.arange(100)
    assert torch.equal(streamed(4).take(rows, CPU)[0], read_split(*whole, "train").images[:])


def test_images_to_begin_with_come_from_few_files(streamed, remote):
    split = streamed(4)
    split.take(split.some_rows(8), CPU)
    assert len([name for name in remote.fetched if "train" in name]) == 1


def test_nothing_is_streamed_without_a_limit(workspace, whole):
    with open_store(None, workspace, whole[1], ("train", "val")) as store:
        assert store is None
    with pytest.raises(
        CacheError, match=r"train-00001-of-00010\.safetensors: missing .* `dvc pull .*` if it was pushed$"
    ):
        read_split(workspace.processed("pets"), whole[1], "train")


def test_too_little_room_is_refused_with_what_is_needed(workspace, whole):
    sizes = [shard_bytes(whole[1].shards[split][0], SHAPE) for split in ("train", "val")]
    least = 2 * sizes[0] + 2 * sizes[1]
    with (
        pytest.raises(ConfigError, match=rf"^data\.local_cache_gb: .* need {least / GIGABYTE:.3g}; raise it, or lower"),
        open_store((least - 1) / GIGABYTE, workspace, whole[1], ("train", "val")),
    ):
        pass


def test_a_file_that_the_remote_lacks_is_named(streamed, remote, monkeypatch):
    split = streamed(4)
    monkeypatch.setattr(remote, "files", remote.files / "gone")
    with pytest.raises(CacheError, match=r"pets/train-.*: neither here nor to be had from the DVC remote .*`dvc push`"):
        list(batches(split))


def test_another_file_in_the_remote_is_refused(streamed, remote, monkeypatch):
    split = streamed(4)
    monkeypatch.setattr(
        shutil,
        "copyfile",
        lambda source, target, copy=shutil.copyfile: copy(source.parent / "test-00001-of-00002.safetensors", target),
    )
    with pytest.raises(CacheError, match=r"pets/train-.*: the DVC remote has another file than dataset\.json names"):
        list(batches(split))


def test_labels_that_the_list_of_files_does_not_have_are_refused(streamed, workspace):
    path = workspace.processed("pets") / "files.csv"
    path.write_text(path.read_text().replace(",a,", ",b,"))
    with pytest.raises(CacheError, match=r"train-.*: its labels are not those of files\.csv; run `darkroom pre"):
        list(batches(streamed(4)))


def test_balanced_batches_are_refused():
    with pytest.raises(ConfigError, match=r"data\.local_cache_gb: images arrive some files at a time, but "):
        parse({"data": {"local_cache_gb": 1.0}, "train": {"sampler": "balanced"}}, where="")


def test_streams_of_other_data_are_removed(streamed, workspace):
    other = workspace.streamed / "0123456789abcdef"
    other.mkdir(parents=True)
    streamed(4)
    assert not other.exists()


def test_downloads_end_with_the_training(workspace, whole):
    with open_store(6 * ROOM / GIGABYTE, workspace, whole[1], ("train", "val")) as store:
        read_split(workspace.processed("pets"), whole[1], "train", store)
    with pytest.raises(RuntimeError):
        store.get(whole[1].shards["train"][0])
