"""What the evaluation of a small model leaves behind for those who use the model."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch
from tests.conftest import QUICK
from tests.unit.images.image_files import read
from tests.unit.refusals import refused

from darkroom.data.batches import read_split
from darkroom.data.cache import DatasetCard
from darkroom.evaluation.metrics import measure
from darkroom.evaluation.notes import caveats
from darkroom.evaluation.predictions import read_predictions
from darkroom.evaluation.reference import Reference, fit_reference
from darkroom.models.files import load_classifier
from darkroom.workspace import Workspace


@pytest.fixture
def report(evaluated):
    return evaluated / "reports" / "evaluate"


@pytest.fixture
def answers(evaluated):
    """The logits of the model for a split, and its labels."""
    directory = Workspace().processed("digits")
    classifier, _ = load_classifier(Workspace().weights, Workspace().model_card)

    def answers(name):
        split = read_split(directory, DatasetCard.read(directory), name)
        with torch.no_grad():
            return classifier(split.images).numpy(), split.labels.numpy()

    return answers


def test_the_reference_is_fitted_on_the_validation_split(report, answers):
    found = Reference.read(report / "reference.json")
    expected = fit_reference(*answers("val"))
    assert found.temperature == pytest.approx(expected.temperature, rel=1e-4)
    assert found.energy_threshold == pytest.approx(expected.energy_threshold, abs=1e-4)
    assert (found.images, found.class_shares) == (expected.images, expected.class_shares)
    other = fit_reference(*answers("test"))
    assert abs(found.temperature / other.temperature - 1) > 0.01


def test_the_figures_of_the_test_split_are_told_before_and_after_calibration(report, answers):
    found = json.loads((report / "metrics.json").read_text())
    temperature = Reference.read(report / "reference.json").temperature
    logits, labels = answers("test")
    for key, scale in (("log_loss", 1), ("calibrated_log_loss", temperature)):
        chances = torch.from_numpy(logits.astype(np.float64) / scale).log_softmax(1)
        assert found[key] == pytest.approx(-chances[torch.arange(len(labels)), labels].mean().item(), abs=1e-5)
    assert {"calibration_error", "calibrated_calibration_error"} <= found.keys()


def test_the_model_says_of_the_gallerys_pictures_what_is_written_there(report, evaluated):
    classifier, card = load_classifier(Workspace().weights, Workspace().model_card)
    listed = json.loads((report / "gallery.json").read_text())
    assert len(listed) == 30
    images = torch.from_numpy(np.stack([read(report / each["file"], 1, (8, 8)) for each in listed]))
    with torch.no_grad():
        predicted = classifier(images).argmax(1)
    assert [card.dataset_card.classes[label] for label in predicted] == [each["predicted"] for each in listed]


def test_the_report_is_of_the_same_evaluation(report, answers):
    page = (report / "index.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    metrics = json.loads((report / "metrics.json").read_text())
    confusion = json.loads((report / "confusion_matrix.json").read_text())
    assert {row["name"]: row["value"] for row in data["metrics"]}["accuracy"] == metrics["accuracy"]
    assert data["classes"] == confusion["classes"]
    assert all(confusion["counts"][actual][predicted] == images for actual, predicted, images in data["cells"])
    logits, labels = answers("test")
    for image in data["images"]:
        assert image["actual"] == labels[image["row"]]
        assert image["energy"] == pytest.approx(-np.logaddexp.reduce(logits[image["row"]].astype(float)), abs=1e-3)
        assert image["slices"].keys() <= {"brightness", "ink"}
    # Of one epoch; neighbors are looked for among as many train images as are evaluated.
    assert data["curves"]["epoch"] == [1]
    assert data["lookedAt"] == len(labels) + len(answers("val")[1]) < data["trainSize"]


def _rows(report):
    with (report / "predictions.csv").open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_each_image_has_its_slices_and_each_slice_its_accuracy(report):
    found = json.loads((report / "slices.json").read_text())
    lines = _rows(report)
    accuracies = [each["accuracy"] for each in found["slices"]]
    assert accuracies == sorted(accuracies)
    assert {each["attribute"] for each in found["slices"]} == {"brightness", "ink", "confusion"}
    assert (report / "slices.png").is_file()
    for each in found["slices"]:
        if each["attribute"] == "confusion":
            own = [line for line in lines if line["actual"] == each["value"].split(" / ")[0]]
            assert len(own) >= each["images"] >= found["min_images"]
        else:
            own = [line for line in lines if line[f"slice {each['attribute']}"] == each["value"]]
            assert len(own) == each["images"]
            assert sum(int(line["correct"]) for line in own) == pytest.approx(each["accuracy"] * each["images"])


def test_the_slices_of_the_registered_predictions_are_read_back(report, answers):
    classes = json.loads((report / "confusion_matrix.json").read_text())["classes"]
    found = read_predictions(report / "predictions.csv", classes)
    assert found.slices.keys() == {"brightness", "ink"}
    assert {len(values) for values in found.slices.values()} == {len(found.labels)}
    assert 2 <= len(set(found.slices["brightness"])) <= 5


def test_an_unknown_attribute_is_refused_and_the_last_report_stays(darkroom, evaluated, write_params, report):
    before = (report / "metrics.json").read_bytes()
    write_params(evaluated, **QUICK, evaluate__slices=["camera"])
    refused(darkroom("evaluate"), r"evaluate\.slices: no attribute 'camera' of the images in data/processed/digits; ")
    write_params(evaluated, **QUICK, evaluate__slices=["size"])
    refused(darkroom("evaluate"), r"evaluate\.slices: the size of the images in data/processed/digits is not known")
    assert (report / "metrics.json").read_bytes() == before


def test_slices_that_are_worse_than_the_rest_are_told_in_a_line(darkroom, evaluated, report, monkeypatch):
    is_wrong = [line["correct"] == "0" for line in _rows(report)]
    cameras = np.where(is_wrong, "broken", "fine").astype(object)
    monkeypatch.setattr("darkroom.stages.evaluate.divide", lambda *_: ({"camera": cameras}, {}))

    code, _, said = darkroom("evaluate")

    assert code == 0
    line = " ".join(said.split())
    assert re.search(r"the accuracy is lower on \d of \d+ slices of the test split: camera broken 0\.0% of \d+ ", line)
    assert "reports/evaluate/slices.json lists them" in line
    assert {line["slice camera"] for line in _rows(report)} == {"broken", "fine"}


def test_a_shortage_of_memory_for_heat_maps_is_told_of_and_the_evaluation_stays(darkroom, report, monkeypatch):
    def fail(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4294967296 bytes.")

    shutil.rmtree(report)
    monkeypatch.setattr("darkroom.stages.evaluate.write_heat_maps", fail)

    code, _, said = darkroom("evaluate")

    assert code == 0
    assert "evaluate: no heat maps: not enough memory (4.0 GiB wanted, " in " ".join(said.split())
    assert json.loads((report / "metrics.json").read_text())["accuracy"] > 0
    assert not list(report.glob("explained*"))


def test_the_prediction_sets_are_measured_on_the_test_split(report):
    found, lines = json.loads((report / "metrics.json").read_text()), _rows(report)
    sets = [json.loads(line["prediction_set"]) for line in lines]
    covered = [line["actual"] in labels for line, labels in zip(lines, sets, strict=True)]
    assert found["set_coverage"] == pytest.approx(np.mean(covered))
    assert found["set_size"] == pytest.approx(np.mean([len(labels) for labels in sets]))
    assert found["empty_sets"] == pytest.approx(np.mean([not labels for labels in sets]))
    of_class = json.loads((report / "per_class.json").read_text())["3"]
    own = [is_covered for line, is_covered in zip(lines, covered, strict=True) if line["actual"] == "3"]
    assert of_class["set_coverage"] == pytest.approx(np.mean(own))


def test_a_coverage_that_takes_more_images_is_told_of_and_left_out(darkroom, evaluated, write_params, report):
    write_params(evaluated, **QUICK, serve__coverage=0.97, serve__coverage_per_class=True)
    code, _, said = darkroom("evaluate")
    assert code == 0
    line = (
        r"no prediction sets: coverage 0\.97 takes 33 validation images of class '\d', and there are \d+; lower serve"
    )
    assert re.search(line, " ".join(said.split()))
    assert "set_coverage" not in json.loads((report / "metrics.json").read_text())
    assert {row["prediction_set"] for row in _rows(report)} == {""}
    assert Reference.read(report / "reference.json").label_scores


@pytest.mark.parametrize(
    ("right", "share", "is_doubtful"),
    [(50, 0.5, True), (55, 0.5, True), (80, 0.5, False), (85, 0.8, True), (99, 0.8, False)],
)
def test_a_model_that_may_only_guess_is_told_of(right, share, is_doubtful):
    labels = (np.arange(100) >= 100 * share).astype(np.int64)
    answers = np.where(np.arange(100) < right, labels, 1 - labels)
    found = measure(np.eye(2, dtype=np.float32)[answers] * 3, labels, ("ant", "bee"), top_k=2, bins=5)
    lines = caveats(found, ("ant", "bee"))
    assert bool(lines) == is_doubtful
    if is_doubtful:
        assert f"{right}.0% of the test images are right, and always answering 'ant' would give {share:.1%}" in lines[0]
