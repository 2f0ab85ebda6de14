"""Published datasets from small files of the published formats, whose checksums take the place of the real ones."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from sklearn.datasets import load_digits

from darkroom.config.settings import Dataset, Preprocess
from darkroom.datasets.catalog import CATALOG
from darkroom.errors import CacheError, DownloadError

# Small, not square, and different in every figure, so that no two of them can be mixed up.
GRAY = {"train": (7, 5, 4), "test": (3, 5, 4)}
COLOR = {"data_batch_1": 5, "data_batch_2": 4, "test_batch": 3}


@pytest.fixture(autouse=True)
def no_mirror_of_the_machine(monkeypatch):
    monkeypatch.delenv("DARKROOM_MIRROR", raising=False)


def quiet(what, done, total):
    pass


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def idx(array):
    """The format that MNIST and its successors are published in."""
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes())


def publish_gray(monkeypatch, directory, class_name="MNIST"):
    """Write the four files into ``directory`` and make them the published ones. Returns their images and labels."""
    generator = np.random.default_rng(0)
    directory.mkdir(parents=True)
    resources, images, labels = [], {}, {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images[split] = generator.integers(0, 256, GRAY[split], dtype=np.uint8)
        labels[split] = generator.integers(0, 10, len(images[split]))
        for kind, array in (("images-idx3", images[split]), ("labels-idx1", labels[split])):
            name, content = f"{prefix}-{kind}-ubyte.gz", idx(array)
            (directory / name).write_bytes(content)
            resources.append((name, md5(content)))
    known = getattr(torchvision.datasets, class_name)
    monkeypatch.setattr(known, "resources", resources)
    monkeypatch.setattr(known, "mirrors", [f"{directory.as_uri()}/"])
    return images, labels


def publish_color(monkeypatch, directory):
    """The same for an archive of the kind that CIFAR-10 is published as."""
    generator = np.random.default_rng(0)
    directory.mkdir(parents=True)
    known = torchvision.datasets.CIFAR10
    batches = {
        name: {
            "data": generator.integers(0, 256, (count, 3 * 32 * 32), dtype=np.uint8),
            "labels": generator.integers(0, 3, count).tolist(),
        }
        for name, count in COLOR.items()
    }
    contents = {name: pickle.dumps(batch) for name, batch in batches.items()}
    contents["batches.meta"] = pickle.dumps({"label_names": ["ant", "bee", "cat"]})
    with tarfile.open(directory / known.filename, "w:gz") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(f"{known.base_folder}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    listed = [[name, md5(contents[name])] for name in COLOR]
    monkeypatch.setattr(known, "tgz_md5", md5((directory / known.filename).read_bytes()))
    monkeypatch.setattr(known, "url", f"{directory.as_uri()}/{known.filename}")
    monkeypatch.setattr(known, "train_list", listed[:2])
    monkeypatch.setattr(known, "test_list", listed[2:])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5(contents["batches.meta"])}
    monkeypatch.setattr(known, "meta", meta)
    return batches


def download(name, directory, mirror=None, report=quiet):
    CATALOG[name].download(Dataset(name=name, mirror=mirror), directory, report)


def decode(name, directory, scratch, **preprocess):
    scratch.mkdir(exist_ok=True)
    return CATALOG[name].decode(directory, Preprocess(**preprocess), scratch, quiet)


def content(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize(
    ("name", "class_name"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_gray_images_labels_and_splits_are_the_published_ones(tmp_path, monkeypatch, name, class_name):
    images, labels = publish_gray(monkeypatch, tmp_path / "host", class_name)
    download(name, tmp_path / "raw")
    assert content(tmp_path / "raw") == content(tmp_path / "host")
    found = decode(name, tmp_path / "raw", tmp_path / "scratch")
    assert np.array_equal(found.images[:, 0], np.concatenate([images["train"], images["test"]]))
    assert found.images.dtype == np.uint8
    assert found.labels.tolist() == [*labels["train"], *labels["test"]]
    assert found.splits.tolist() == ["train"] * 7 + ["test"] * 3
    assert len(found.classes) == 10
    assert found.sizes == {"4x5": 10}
    assert found.names == ()
    assert found.broken == {}


def test_color_images_labels_splits_and_classes_are_the_published_ones(tmp_path, monkeypatch):
    batches = publish_color(monkeypatch, tmp_path / "host")
    download("cifar10", tmp_path / "raw")
    found = decode("cifar10", tmp_path / "raw", tmp_path / "scratch")
    # The format: 1024 red values of each image, row by row, then green, then blue.
    pixels = np.concatenate([batches[name]["data"] for name in COLOR]).reshape(-1, 3, 32, 32)
    assert np.array_equal(found.images, pixels)
    assert found.labels.tolist() == [label for name in COLOR for label in batches[name]["labels"]]
    assert found.splits.tolist() == ["train"] * 9 + ["test"] * 3
    assert found.classes == ("ant", "bee", "cat")


def test_the_classes_of_fashion_mnist_have_their_published_names(tmp_path, monkeypatch):
    publish_gray(monkeypatch, tmp_path / "host", "FashionMNIST")
    download("fashion-mnist", tmp_path / "raw")
    found = decode("fashion-mnist", tmp_path / "raw", tmp_path / "scratch")
    assert found.classes[0] == "T-shirt/top"
    assert found.classes[9] == "Ankle boot"


@pytest.mark.parametrize("address", [os.fspath, lambda path: path.as_uri(), lambda path: f"{path}/"])
def test_a_mirror_may_be_a_directory_or_an_address(tmp_path, monkeypatch, address):
    publish_gray(monkeypatch, tmp_path / "mirror" / "mnist")
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["file:///nowhere/"])
    download("mnist", tmp_path / "raw", address(tmp_path / "mirror"))
    assert content(tmp_path / "raw") == content(tmp_path / "mirror" / "mnist")


def test_a_mirror_is_asked_before_the_public_hosts(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("darkroom.datasets.published.fetch", lambda name, md5, sources, *rest: asked.append(sources))
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["https://one/", "https://other/"])
    download("mnist", tmp_path / "raw", "/mirror")
    assert asked == [["/mirror/mnist", "https://one/", "https://other/"]] * 4


def test_a_mirror_holds_archives_of_color_images_too(tmp_path, monkeypatch):
    publish_color(monkeypatch, tmp_path / "mirror" / "cifar10")
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", "file:///nowhere/cifar-10-python.tar.gz")
    download("cifar10", tmp_path / "raw", str(tmp_path / "mirror"))
    assert content(tmp_path / "raw") == content(tmp_path / "mirror" / "cifar10")


def test_the_environment_names_a_mirror(tmp_path, monkeypatch):
    publish_gray(monkeypatch, tmp_path / "mirror" / "mnist")
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["file:///nowhere/"])
    monkeypatch.setenv("DARKROOM_MIRROR", str(tmp_path / "mirror"))
    download("mnist", tmp_path / "raw")
    assert len(content(tmp_path / "raw")) == 4


def test_a_mirror_in_the_settings_comes_before_that_of_the_environment(tmp_path, monkeypatch):
    publish_gray(monkeypatch, tmp_path / "mirror" / "mnist")
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["file:///nowhere/"])
    monkeypatch.setenv("DARKROOM_MIRROR", "/nowhere")
    download("mnist", tmp_path / "raw", str(tmp_path / "mirror"))
    assert len(content(tmp_path / "raw")) == 4


def test_the_public_hosts_are_asked_where_the_mirror_lacks_a_file(tmp_path, monkeypatch):
    publish_gray(monkeypatch, tmp_path / "host")
    download("mnist", tmp_path / "raw", str(tmp_path / "empty"))
    assert content(tmp_path / "raw") == content(tmp_path / "host")


def test_a_file_with_another_checksum_is_refused(tmp_path, monkeypatch):
    publish_gray(monkeypatch, tmp_path / "host")
    (tmp_path / "host" / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(np.zeros(3)))
    with pytest.raises(DownloadError, match=r"t10k-labels-idx1-ubyte\.gz: not available.*wrong checksum"):
        download("mnist", tmp_path / "raw")
    assert "t10k-labels-idx1-ubyte.gz" not in content(tmp_path / "raw")


@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "missing"])
def test_a_damaged_raw_file_is_refused_with_the_command_that_mends_it(tmp_path, monkeypatch, damage):
    publish_gray(monkeypatch, tmp_path / "host")
    download("mnist", tmp_path / "raw")
    path = tmp_path / "raw" / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(whole[:-1] + (bytes([whole[-1] ^ 1]) if damage == "flipped bit" else b""))
    match = r"train-images-idx3-ubyte\.gz: missing or damaged; run `darkroom download` again"
    with pytest.raises(CacheError, match=match):
        decode("mnist", tmp_path / "raw", tmp_path / "scratch")
    download("mnist", tmp_path / "raw")
    assert path.read_bytes() == whole


def test_decoding_leaves_the_raw_files_and_the_scratch_directory_as_they_were(tmp_path, monkeypatch):
    publish_gray(monkeypatch, tmp_path / "host")
    download("mnist", tmp_path / "raw")
    before = content(tmp_path / "raw")
    decode("mnist", tmp_path / "raw", tmp_path / "scratch")
    assert content(tmp_path / "raw") == before
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_raw_directory_may_be_given_relative_to_the_working_directory(tmp_path, monkeypatch):
    publish_gray(monkeypatch, tmp_path / "host")
    monkeypatch.chdir(tmp_path)
    download("mnist", Path("raw"))
    assert len(decode("mnist", Path("raw"), Path("scratch")).images) == 10


def test_gray_images_can_be_made_color_and_larger(tmp_path, monkeypatch):
    images, _ = publish_gray(monkeypatch, tmp_path / "host")
    download("mnist", tmp_path / "raw")
    found = decode("mnist", tmp_path / "raw", tmp_path / "scratch", channels=3, image_size=[10, 8])
    assert found.images.shape == (10, 3, 10, 8)
    assert np.array_equal(found.images[:, 0], found.images[:, 2])
    # Scaling keeps the mean of a picture, but for what Lanczos rings at the borders.
    means = np.concatenate([images["train"], images["test"]]).mean(axis=(1, 2))
    assert np.abs(found.images.mean(axis=(1, 2, 3)) - means).max() < 10
    assert found.sizes == {"4x5": 10}


def test_color_images_can_be_made_gray(tmp_path, monkeypatch):
    batches = publish_color(monkeypatch, tmp_path / "host")
    download("cifar10", tmp_path / "raw")
    found = decode("cifar10", tmp_path / "raw", tmp_path / "scratch", channels=1)
    pixels = np.concatenate([batches[name]["data"] for name in COLOR]).reshape(-1, 3, 32, 32)
    luma = np.einsum("c,nchw->nhw", [0.299, 0.587, 0.114], pixels)
    assert found.images.shape == (12, 1, 32, 32)
    assert np.abs(found.images[:, 0] - luma).max() <= 1


def test_progress_names_the_files(tmp_path, monkeypatch):
    publish_gray(monkeypatch, tmp_path / "host")
    seen = []
    monkeypatch.setattr("darkroom.datasets.published.fetch", lambda name, *rest: rest[-1](3, 9))
    download("mnist", tmp_path / "raw", report=lambda *news: seen.append(news))
    assert seen == [(name, 3, 9) for name, _ in torchvision.datasets.MNIST.resources]


# --- digits ------------------------------------------------------------------------------------------


def test_digits_are_those_of_scikit_learn_scaled_to_255(tmp_path):
    download("digits", tmp_path / "raw")
    found = decode("digits", tmp_path / "raw", tmp_path / "scratch")
    expected = load_digits()
    assert np.array_equal(found.images[:, 0], np.rint(expected.images * 255 / 16))
    assert found.images.dtype == np.uint8
    assert np.array_equal(found.labels, expected.target)
    assert found.classes == tuple(str(digit) for digit in range(10))
    assert set(found.splits) == {""}


def test_digits_can_be_made_color_and_larger(tmp_path, monkeypatch):
    monkeypatch.setattr("darkroom.datasets.published.CHUNK_BYTES", 100_000)
    download("digits", tmp_path / "raw")
    found = decode("digits", tmp_path / "raw", tmp_path / "scratch", channels=3, image_size=[12, 10])
    assert found.images.shape == (1797, 3, 12, 10)
    # In a file, and not in memory: 4096x4096 pixels of each would take 28 GiB.
    assert isinstance(found.images, np.memmap)
    assert found.images.max(axis=(1, 2, 3)).min() > 100
    assert found.sizes == {"8x8": 1797}


@pytest.mark.filterwarnings("ignore:loadtxt:UserWarning")
@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-100],
        lambda whole: whole[:1000] + b"\xff" * 100 + whole[1100:],
        lambda whole: gzip.compress(b"1,2,3\n4,5,6\n"),
        lambda whole: gzip.compress(b"words"),
        lambda whole: b"",
        lambda whole: b"not gzip",
    ],
    ids=["truncated", "overwritten", "another table", "no table", "empty", "not gzip"],
)
def test_damaged_digits_are_refused_with_the_command_that_mends_them(tmp_path, damage):
    download("digits", tmp_path / "raw")
    path = tmp_path / "raw" / "digits.csv.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CacheError, match=r"digits\.csv\.gz: missing or damaged; run `darkroom download` again"):
        decode("digits", tmp_path / "raw", tmp_path / "scratch")


def test_missing_digits_are_refused_with_the_command_that_brings_them(tmp_path):
    with pytest.raises(CacheError, match=r"digits\.csv\.gz: missing or damaged; run `darkroom download` again"):
        decode("digits", tmp_path, tmp_path)
