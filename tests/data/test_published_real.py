"""Facts about MNIST and Fashion-MNIST, where a mirror of their files is at hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests import conftest
from tests.defaults import ROOT

from darkroom.config import Config
from darkroom.config.settings import Dataset
from darkroom.data.batches import read_split
from darkroom.data.cache import DatasetCard
from darkroom.stages import download, preprocess
from darkroom.workspace import Workspace

MIRROR = conftest.MIRROR or str(ROOT.parent / "shared" / "data")

# Mean and standard deviation of the 60,000 train images as they are widely quoted, and the train images of each class.
FACTS = {
    "mnist": (0.1307, 0.3081, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
    "fashion-mnist": (0.2860, 0.3530, [6000] * 10),
}
# One in ten of the train images is set aside for validation; that moves the mean by less than this.
TOLERANCE = 0.002


@pytest.fixture(scope="module", params=FACTS)
def prepared(request, tmp_path_factory):
    """The name of the dataset, and the workspace in which the first two stages have run."""
    name = request.param
    if "://" not in MIRROR and not (Path(MIRROR).expanduser() / name / "train-images-idx3-ubyte.gz").is_file():
        pytest.skip(f"{MIRROR} does not hold {name}; set DARKROOM_MIRROR to a directory or URL that does")
    workspace = Workspace(tmp_path_factory.mktemp(name))
    config = Config(dataset=Dataset(name=name, mirror=MIRROR))
    download.run(config, workspace)
    preprocess.run(config, workspace)
    return name, workspace


@pytest.fixture(scope="module")
def card(prepared):
    name, workspace = prepared
    return DatasetCard.read(workspace.processed(name))


@pytest.fixture(scope="module")
def splits(prepared, card):
    name, workspace = prepared
    return {split: read_split(workspace.processed(name), card, split) for split in ("train", "val", "test")}


def test_there_are_60000_images_to_learn_from_and_10000_to_test_on(card):
    assert card.sizes == {"train": 54_000, "val": 6_000, "test": 10_000}
    assert card.shape == (1, 28, 28)
    assert len(card.classes) == 10


def test_mean_and_std_are_near_the_published_ones(prepared, card):
    mean, std, _ = FACTS[prepared[0]]
    assert card.mean == pytest.approx([mean], abs=TOLERANCE)
    assert card.std == pytest.approx([std], abs=TOLERANCE)


def test_mean_and_std_of_train_and_val_together_are_the_published_ones(prepared, splits):
    mean, std, _ = FACTS[prepared[0]]
    pixels = np.concatenate([splits[split].images.numpy().ravel() for split in ("train", "val")])
    counts = np.bincount(pixels, minlength=256)
    values = np.arange(256) / 255
    found = np.average(values, weights=counts)
    assert found == pytest.approx(mean, abs=5e-5)
    assert np.sqrt(np.average((values - found) ** 2, weights=counts)) == pytest.approx(std, abs=5e-5)


def test_every_class_is_there_as_often_as_published(prepared, splits):
    counts = FACTS[prepared[0]][2]
    labels = {split: np.bincount(splits[split].labels.numpy(), minlength=10) for split in splits}
    assert (labels["train"] + labels["val"]).tolist() == counts
    assert np.abs(labels["val"] - np.array(counts) / 10).max() <= 1
    assert labels["test"].sum() == 10_000
    assert labels["test"].min() > 800


def test_the_report_agrees_with_the_splits(prepared, splits):
    _, workspace = prepared
    report = json.loads((workspace.report("preprocess") / "report.json").read_text(encoding="utf-8"))
    assert report["images"] == {"train": 54_000, "val": 6_000, "test": 10_000}
    assert report["original_sizes"] == {"28x28": 70_000}
    assert report["broken_count"] == 0
    for label, counts in enumerate(report["classes"].values()):
        assert counts == {split: int((splits[split].labels == label).sum()) for split in splits}


def test_the_report_counts_copies_as_a_set_of_bytes_does(prepared, splits):
    _, workspace = prepared
    duplicates = json.loads((workspace.report("preprocess") / "report.json").read_text(encoding="utf-8"))["duplicates"]
    seen = {split: {image.tobytes() for image in splits[split].images.numpy()} for split in splits}
    assert duplicates["surplus_images"] == 70_000 - len(set().union(*seen.values()))
    crossing = (seen["train"] & seen["val"]) | (seen["train"] & seen["test"]) | (seen["val"] & seen["test"])
    assert duplicates["groups_across_splits"] == len(crossing)
