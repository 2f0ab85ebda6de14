"""A version is loaded from the registry with what its evaluation has left, and tried before it answers."""

import csv
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from darkroom.config.settings import Serve
from darkroom.errors import ModelError, TrackingError
from darkroom.evaluation.prediction_sets import ordered_labels
from darkroom.evaluation.reference import calibrated, energies
from darkroom.promotion.registry import MODEL_FILE
from darkroom.serving import loaded_model as bundle_module
from darkroom.serving.loaded_model import load_version
from darkroom.tracking.runs import REFERENCE_TAG
from darkroom.utils.files import sha256
from darkroom.workspace import Workspace

DIGITS = tuple("0123456789")
TORCH = Serve(runtime="torch")  # takes no conversion to ONNX


@pytest.fixture
def artifacts(registered):
    """Where the store keeps the evaluation of the version."""
    client, version = registered
    model = client.get_logged_model(str(version.source).removeprefix("models:/"))
    return Path(model.artifact_location.removeprefix("file://")) / "evaluate"


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_the_answers_are_those_of_the_evaluation_for_the_whole_test_split(registered, evaluated, runtime):
    from darkroom.data.batches import read_split
    from darkroom.data.cache import DatasetCard

    loaded = load_version(*registered, Serve(runtime=runtime))
    directory = Workspace().processed("digits")
    test = read_split(directory, DatasetCard.read(directory), "test")
    with (evaluated / "reports/evaluate/predictions.csv").open(encoding="utf-8") as opened:
        recorded = [(row["predicted"], json.loads(row["prediction_set"])) for row in csv.DictReader(opened)]

    logits = loaded.runtime.infer(test.images.numpy())
    probabilities = calibrated(logits, loaded.reference.temperature)
    members = loaded.sets.of(probabilities, energies(logits))
    assert loaded.runtime.kind == runtime
    assert [
        (loaded.classes[row.argmax()], ordered_labels(labels, row, loaded.classes))
        for row, labels in zip(probabilities, members, strict=True)
    ] == recorded
    assert len({len(labels) for _, labels in recorded}) > 1


@pytest.mark.parametrize("age", ["new", "old"])
def test_without_prediction_sets_a_version_is_served_all_the_same(registered, artifacts, caplog, age):
    client, version = registered
    settings = Serve(runtime="torch", coverage=0.999 if age == "new" else 0.95)
    if age == "old":
        found = json.loads((artifacts / "reference.json").read_text())
        del found["label_scores"]
        (artifacts / "reference.json").write_text(json.dumps(found))
        client.set_model_version_tag(version.name, "1", REFERENCE_TAG, sha256(artifacts / "reference.json"))
    loaded = load_version(client, client.get_model_version(version.name, "1"), settings)

    assert loaded.sets is None
    assert loaded.reference is not None
    lines = [record.getMessage() for record in caplog.records if "prediction sets" in record.getMessage()]
    assert len(lines) == (age == "new")
    for line in lines:
        assert line.startswith(
            "darkroom-digits version 1: no prediction sets: coverage 0.999 takes 999 validation images, and there are "
        )


def test_everything_that_is_known_of_the_version_comes_along(registered, evaluated):
    loaded = load_version(*registered, TORCH)
    report = evaluated / "reports/evaluate"

    assert (loaded.name, loaded.version) == ("darkroom-digits", "1")
    assert (loaded.classes, loaded.shape) == (DIGITS, (1, 8, 8))
    assert loaded.reference is not None
    assert loaded.transform.layout == loaded.reference.ink is not None
    assert loaded.about["metrics"]["accuracy"] == pytest.approx(
        json.loads((report / "metrics.json").read_text())["accuracy"]
    )
    assert (loaded.about["architecture"], loaded.about["dataset"]) == ("mlp", "digits")
    assert loaded.about["parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    assert loaded.confusion == json.loads((report / "confusion_matrix.json").read_text())
    listed = json.loads((report / "gallery.json").read_text())
    assert [(each.actual, each.predicted) for each in loaded.gallery] == [
        (each["actual"], each["predicted"]) for each in listed
    ]
    assert loaded.report == (report / "index.html").read_bytes()
    assert loaded.gallery[0].png == (report / listed[0]["file"]).read_bytes()


def test_a_version_with_few_artifacts_is_served_without_what_it_lacks(registered, artifacts):
    for name in ("reference.json", "gallery.json", "confusion_matrix.json", "index.html"):
        (artifacts / name).unlink()
    shutil.rmtree(artifacts / "gallery")
    client, version = registered
    client.delete_model_version_tag(version.name, "1", REFERENCE_TAG)
    loaded = load_version(client, client.get_model_version(version.name, "1"), TORCH)

    assert (loaded.reference, list(loaded.gallery), loaded.confusion, loaded.transform.layout) == (None, [], None, None)
    assert loaded.report is None
    assert loaded.runtime.infer(np.zeros((1, 1, 8, 8), np.uint8)).shape == (1, 10)


def test_a_version_whose_run_was_deleted_is_served_with_all_that_is_known_of_it(registered, evaluated):
    before = load_version(*registered, TORCH)
    shutil.rmtree(evaluated / "mlruns" / str(registered[1].run_id))  # as `mlflow gc` does
    with closing(sqlite3.connect(evaluated / "mlflow.db")) as database, database:
        for table in ("tags", "params", "metrics", "latest_metrics", "runs"):
            database.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
    after = load_version(*registered, TORCH)
    assert (after.about, after.reference, after.confusion) == (before.about, before.reference, before.confusion)
    assert after.gallery == before.gallery != []


def test_a_version_that_no_longer_gives_the_recorded_answers_fails_its_self_test(registered, artifacts):
    listed = json.loads((artifacts / "gallery.json").read_text())
    listed[3]["predicted"] = next(digit for digit in DIGITS if digit != listed[3]["predicted"])
    (artifacts / "gallery.json").write_text(json.dumps(listed))
    with pytest.raises(
        ModelError, match=rf"darkroom-digits version 1: failed its self-test: 1 of {len(listed)} answers"
    ):
        load_version(*registered, TORCH)


@pytest.mark.parametrize("logits", [np.zeros((4, 9), np.float32), np.full((4, 10), np.nan, np.float32)])
def test_a_version_that_answers_nonsense_fails_its_self_test(registered, monkeypatch, logits):
    from darkroom.serving.runtime import Runtime

    monkeypatch.setattr(bundle_module, "choose_runtime", lambda *given: Runtime("torch", lambda images: logits, 0.0))
    with pytest.raises(ModelError, match="failed its self-test"):
        load_version(*registered, TORCH)


def test_a_model_that_was_changed_in_the_store_is_not_served(registered):
    client, version = registered
    model = client.get_logged_model(str(version.source).removeprefix("models:/"))
    path = Path(model.artifact_location.removeprefix("file://")) / MODEL_FILE
    program = torch.export.load(path)
    torch.export.save(program, path, extra_files={"note": "another file"})
    with pytest.raises(TrackingError, match="is not the one that was registered"):
        load_version(client, version, TORCH)
