"""What is written into the report of an evaluation: its numbers, and which images with what beside them."""

import base64
import io
import json
import math
import re

import numpy as np
import pytest
from PIL import Image
from tests.unit.evaluation.made_up_report import BINS, evaluation, write

from darkroom.evaluation.metrics import measure
from darkroom.evaluation.page import pictures, tables
from darkroom.evaluation.page.choice import Judged, judge, rank
from darkroom.evaluation.reference import calibrated, energies
from darkroom.evaluation.training_curves import write_history

CLASSES = ("cat", "dog", "fox")
EPOCH = {
    "epoch": 1,
    "train_loss": 0.9,
    "train_accuracy": 0.5,
    "val_loss": 0.8,
    "val_accuracy": 0.6,
    "lr": 1,
    "seconds": 1,
}


@pytest.fixture
def report(tmp_path):
    """Write a report, and read the data in it."""

    def report(classes=CLASSES, **options):
        write(tmp_path / "index.html", classes, **options)
        page = (tmp_path / "index.html").read_text(encoding="utf-8")
        return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])

    return report


def of_cells(cells):
    """An evaluation of two classes whose images are in the given cells (true, predicted)."""
    labels, predicted = np.array(cells).T
    return measure(np.eye(2, dtype=np.float32)[predicted] * 3, labels, ("a", "b"), top_k=2, bins=BINS)


def test_each_cell_has_its_turn_and_the_fullest_is_first():
    found = of_cells([(0, 0), (0, 0), (0, 0), (0, 1), (0, 1), (1, 1)])
    same = np.arange(6.0)
    assert rank(found, Judged(same, same, same)).tolist()[:3] == [2, 4, 5]


def test_loss_doubt_and_unlikeness_take_turns_in_a_cell():
    found = of_cells([(0, 0)] * 6 + [(1, 1)])
    loss, doubt, energy = np.eye(7)[0], np.eye(7)[3], np.eye(7)[5]
    order = rank(found, Judged(doubt, loss, energy)).tolist()
    assert [row for row in order if row < 6][:3] == [0, 3, 5]


def test_every_image_is_ranked_once():
    found, logits = evaluation(CLASSES, 90)
    order = rank(found, judge(found, calibrated(logits, 1.5), logits))
    assert sorted(order.tolist()) == list(range(90))


def test_doubt_loss_and_energy_are_of_the_calibrated_probabilities_and_the_logits():
    found, logits = evaluation(CLASSES, 30)
    judged = judge(found, calibrated(logits, 2.0), logits)
    scaled = np.exp(logits.astype(np.float64) / 2)
    chances = scaled / scaled.sum(axis=1, keepdims=True)
    assert judged.doubt == pytest.approx(1 - chances.max(axis=1))
    assert judged.loss == pytest.approx(-np.log(chances[np.arange(30), found.labels]))
    assert np.array_equal(judged.energy, energies(logits))


def test_an_image_says_what_the_model_thinks_of_it(report):
    found, _ = evaluation(CLASSES)
    data = report()
    assert len(data["images"]) == data["total"] == 120
    for image in data["images"]:
        assert (image["actual"], image["predicted"]) == (found.labels[image["row"]], found.predicted[image["row"]])
        assert image["top"][0] == [image["predicted"], pytest.approx(1 - image["doubt"], abs=2e-6)]
        assert image["loss"] == pytest.approx(-math.log(image["own"]), abs=1e-3)
        assert len(image["near"]) == pictures.NEIGHBORS
        assert image["near"] == sorted(image["near"], key=lambda each: -each[1])
    (first,) = {image["set"] for image in data["images"]}
    assert first is None


def test_the_cells_count_all_images(report):
    found, _ = evaluation(CLASSES)
    counts = np.zeros((3, 3), int)
    for actual, predicted, images in report()["cells"]:
        counts[actual, predicted] = images
    assert counts.tolist() == found.confusion.tolist()


def test_images_take_no_more_bytes_than_there_is_room_for(report, monkeypatch):
    whole = report()
    monkeypatch.setattr(pictures, "OWN_BYTES", 10_000)
    monkeypatch.setattr(pictures, "NEIGHBOR_BYTES", 5_000)
    data = report()
    sizes = {name: sum(len(each["source"]) for each in data[name]) for name in ("images", "train")}
    assert 9_000 < sizes["images"] <= 10_000
    assert 4_000 < sizes["train"] <= 5_000
    assert data["images"][0]["source"] == whole["images"][0]["source"]
    assert {len(image["near"]) for image in data["images"]} == {0, pictures.NEIGHBORS}


def test_no_more_images_are_shown_than_people_look_at(report, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_SHOWN", 9)
    data = report()
    assert len(data["images"]) == 9
    assert {(image["actual"], image["predicted"]) for image in data["images"]} == {
        (actual, predicted) for actual, predicted, _ in data["cells"]
    }


def test_photographs_are_made_smaller_and_their_neighbors_more_so(report):
    data = report(shape=(3, 300, 600), count=6, train=6)
    sizes = {
        name: {Image.open(io.BytesIO(base64.b64decode(each["source"].partition(",")[2]))).size for each in data[name]}
        for name in ("images", "train")
    }
    assert sizes == {"images": {(256, 128)}, "train": {(112, 56)}}


def test_without_train_images_no_image_has_neighbors(report):
    data = report(train=0)
    assert (data["train"], data["lookedAt"]) == ([], 0)
    assert all(not image["near"] for image in data["images"])


def test_metrics_have_their_intervals_and_what_has_none_is_listed_too():
    rows = {row["name"]: row for row in tables.metric_rows({"a": 1.0, "a_low": 0.5, "a_high": 2.0, "b": 3, "c_low": 4})}
    assert [rows["a"][key] for key in ("value", "low", "high")] == [1.0, 0.5, 2.0]
    assert [rows["b"][key] for key in ("value", "low", "high")] == [3, None, None]
    assert rows.keys() == {"a", "b", "c_low"}


def test_the_bins_of_the_calibration_hold_every_image():
    confidence, correct = np.array([0.05, 0.52, 0.58, 1.0]), np.array([False, True, False, True])
    bins = tables.calibration_bins(confidence, correct, 10)
    assert [(each["confidence"], each["accuracy"], each["images"]) for each in bins] == [
        (0.05, 0.0, 1), (pytest.approx(0.55), 0.5, 2), (1.0, 1.0, 1),
    ]  # fmt: skip
    assert all(each["low"] <= each["accuracy"] <= each["high"] for each in bins)


def test_prediction_sets_are_told_by_their_size(report):
    sets = np.zeros((120, 3), bool)
    sets[:100, 0] = True
    sets[:10, 1] = True
    data = report(sets=sets)
    # Labels 0, 1, 2 in turn: of the ten first images seven are of the class 0 or 1, of the other 90 thirty of 0.
    assert data["sets"] == [
        {"size": 0, "images": 20, "right": 0},
        {"size": 1, "images": 90, "right": 30},
        {"size": 2, "images": 10, "right": 7},
    ]
    assert {image["row"]: image["set"] for image in data["images"]}[5] == [0, 1]


def test_curves_are_those_of_the_model_or_there_are_none(tmp_path):
    path = tmp_path / "history.csv"
    assert tables.read_curves(path, EPOCH) is None
    write_history([EPOCH, EPOCH | {"epoch": 2, "val_loss": 0.7}], path)
    assert tables.read_curves(path, EPOCH | {"epoch": 2, "val_loss": 0.7}) == {
        "epoch": [1, 2], "train_loss": [0.9, 0.9], "val_loss": [0.8, 0.7], "train_accuracy": [0.5, 0.5],
        "val_accuracy": [0.6, 0.6], "best": 2,
    }  # fmt: skip
    assert tables.read_curves(path, EPOCH | {"val_loss": 0.75}) is None


@pytest.mark.parametrize(
    "content", [b"", b"epoch,val_loss\n1,0.8\n", b"epoch,val_loss\n1,x\n", b"\xff\xfe", b"epoch\n1,2\n"]
)
def test_a_damaged_history_gives_no_curves(tmp_path, content):
    (tmp_path / "history.csv").write_bytes(content)
    assert tables.read_curves(tmp_path / "history.csv", EPOCH) is None
