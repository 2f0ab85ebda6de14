"""Facts about the digits dataset, as the first two stages leave it."""

import json
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from darkroom.config import Config
from darkroom.config.settings import Dataset, Preprocess
from darkroom.data.batches import read_split
from darkroom.data.cache import DatasetCard, read_names
from darkroom.stages import download, preprocess
from darkroom.workspace import Workspace

# Images of each digit, 0 to 9, as the dataset's description counts them.
COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
# A fifth for testing, a tenth of the rest for validation, both rounded up.
SIZES = {"train": 1293, "val": 144, "test": 360}


def prepare(root, **settings):
    workspace = Workspace(root)
    config = Config(dataset=Dataset(name="digits"), preprocess=Preprocess(**settings))
    download.run(config, workspace)
    preprocess.run(config, workspace)
    return workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, blank_figures):
    with mock.patch("darkroom.plotting.save", blank_figures):
        return prepare(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def card(workspace):
    return DatasetCard.read(workspace.processed("digits"))


@pytest.fixture(scope="module")
def splits(workspace, card):
    return {name: read_split(workspace.processed("digits"), card, name) for name in SIZES}


@pytest.fixture(scope="module")
def report(workspace):
    return json.loads((workspace.report("preprocess") / "report.json").read_text(encoding="utf-8"))


def test_there_are_1797_images_of_8_by_8_gray_pixels_in_ten_classes(card):
    assert sum(card.sizes.values()) == 1797
    assert card.shape == (1, 8, 8)
    assert card.classes == tuple("0123456789")


def test_the_splits_have_their_shares(card, splits):
    assert card.sizes == SIZES
    assert {name: len(split) for name, split in splits.items()} == SIZES


def test_every_digit_is_there_as_often_as_published(splits):
    labels = np.concatenate([split.labels.numpy() for split in splits.values()])
    assert np.bincount(labels).tolist() == COUNTS


@pytest.mark.parametrize("name", SIZES)
def test_every_split_has_its_share_of_every_digit(splits, name):
    found = np.bincount(splits[name].labels.numpy(), minlength=10)
    expected = np.array(COUNTS) * SIZES[name] / 1797
    assert np.abs(found - expected).max() <= 2


def test_every_published_image_is_in_exactly_one_split(splits):
    published = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    found = np.concatenate([split.images.numpy()[:, 0] for split in splits.values()])
    assert sorted(image.tobytes() for image in found) == sorted(image.tobytes() for image in published)


def test_every_image_has_the_label_it_was_published_with(splits):
    published = load_digits()
    labels = {
        np.rint(image * 255 / 16).astype(np.uint8).tobytes(): label
        for image, label in zip(published.images, published.target, strict=True)
    }
    for split in splits.values():
        for image, label in zip(split.images.numpy(), split.labels.tolist(), strict=True):
            assert labels[image.tobytes()] == label


def test_mean_and_std_are_those_of_the_train_split(card, splits):
    pixels = splits["train"].images.numpy() / 255
    assert card.mean == pytest.approx([pixels.mean()])
    assert card.std == pytest.approx([pixels.std()])


def test_the_report_counts_images_classes_and_sizes(report):
    assert report["images"] == SIZES
    assert [sum(report["classes"][digit].values()) for digit in "0123456789"] == COUNTS
    assert all(min(counts.values()) > 0 for counts in report["classes"].values())
    assert report["original_sizes"] == {"8x8": 1797}
    assert report["different_sizes"] == 1


def test_the_report_finds_nothing_broken_and_no_duplicates(report):
    images = load_digits().images
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == 1797
    assert (report["broken_count"], report["broken"]) == (0, [])
    assert report["duplicates"] == {
        "groups": 0,
        "surplus_images": 0,
        "groups_across_splits": 0,
        "groups_with_different_labels": 0,
        "examples": [],
    }


@pytest.mark.parametrize("name", ["class_balance.png", "samples.png"])
def test_the_report_has_its_pictures(workspace, name):
    with Image.open(workspace.report("preprocess") / name) as picture:
        picture.load()
        assert min(picture.size) > 300


def test_digits_have_no_file_names(workspace):
    assert read_names(workspace.processed("digits"), "test") == []


def test_nothing_but_the_stages_outputs_is_left_behind(workspace):
    found = {str(path.relative_to(workspace.root)) for path in workspace.root.rglob("*") if path.is_file()}
    assert found == {
        "data/raw/digits/digits.csv.gz",
        "data/processed/digits/dataset.json",
        "data/processed/digits/files.csv",
        "data/processed/digits/groups.npy",
        "data/processed/digits/leaked.json",
        "data/processed/digits/train.safetensors",
        "data/processed/digits/val.safetensors",
        "data/processed/digits/test.safetensors",
        "reports/preprocess/report.json",
        "reports/preprocess/files.csv.gz",
        "reports/preprocess/class_balance.png",
        "reports/preprocess/samples.png",
    }


@pytest.mark.usefixtures("drawn")
def test_the_same_settings_give_the_same_files(tmp_path, workspace):
    again = prepare(tmp_path)
    for path in (path for path in workspace.root.rglob("*") if path.is_file()):
        assert (again.root / path.relative_to(workspace.root)).read_bytes() == path.read_bytes()


def test_another_seed_gives_other_splits_of_the_same_images(tmp_path, splits):
    directory = prepare(tmp_path, seed=1).processed("digits")
    other = {name: read_split(directory, DatasetCard.read(directory), name) for name in SIZES}
    assert {name: len(split) for name, split in other.items()} == SIZES
    assert not np.array_equal(other["test"].images.numpy(), splits["test"].images.numpy())
