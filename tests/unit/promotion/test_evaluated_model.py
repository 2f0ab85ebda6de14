"""What is known of a model is what was registered, or is refused in one line."""

import csv
import json
import re
import shutil
import sqlite3
from contextlib import closing

import pytest
import torch
from mlflow.exceptions import MlflowException
from tests.conftest import QUICK

from darkroom.errors import TrackingError
from darkroom.models.files import load_classifier
from darkroom.promotion import evaluated_model
from darkroom.promotion.evaluated_model import load_evaluated_model
from darkroom.promotion.registry import find
from darkroom.tracking.runs import FINGERPRINT_TAG, MODEL_TAG, PREDICTIONS_TAG

NAME = "darkroom-digits"
REGISTER_AGAIN = "run `darkroom register` in the project that has its files, or train it again"


@pytest.fixture
def client(registered):
    """The client of a store with one version registered, in the files below ``evaluated``."""
    return registered[0]


@pytest.fixture
def collect(client, tmp_path_factory):
    """Gather what is known of version 1, or of what is named."""
    return lambda reference="1": load_evaluated_model(
        client, find(client, NAME, reference), tmp_path_factory.mktemp("evidence")
    )


def stored(root, name):
    (found,) = (root / "mlruns" / "models").rglob(name)
    return found


def refused(collect, pattern, reference="1"):
    with pytest.raises(TrackingError, match=pattern) as raised:
        collect(reference)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_the_answers_are_those_of_the_evaluation(collect, evaluated):
    found = collect()
    with (evaluated / "reports" / "evaluate" / "predictions.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    answers = found.answers
    assert [answers.classes[guess] for guess in answers.predicted] == [row["predicted"] for row in rows]
    assert [answers.classes[label] for label in answers.labels] == [row["actual"] for row in rows]
    assert found.shape == (1, 8, 8)
    card = json.loads((evaluated / "models" / "model.json").read_text())
    assert found.fingerprint == card["dataset"]["fingerprint"]


def test_a_run_is_known_as_well_as_its_version(collect, client):
    by_version, by_run = collect(), collect(client.get_model_version(NAME, "1").run_id)
    assert by_run.answers.split == by_version.answers.split
    assert by_run.size_bytes == by_version.size_bytes


def test_the_model_answers_as_the_one_in_the_working_tree(collect, evaluated):
    classifier, _ = load_classifier(evaluated / "models" / "model.safetensors", evaluated / "models" / "model.json")
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(collect().load()(images), classifier(images))


def test_a_robustness_that_is_measured_later_is_registered_with_the_same_version(
    collect, client, darkroom, evaluated, write_params
):
    assert collect().robust_accuracy() is None
    write_params(evaluated, **QUICK, evaluate__corruptions="common")
    code, _, told = darkroom("evaluate")
    assert code == 0
    metrics = json.loads((evaluated / "reports" / "evaluate" / "metrics.json").read_text())
    ends = [metrics[f"robust_accuracy{end}"] for end in ("_low", "", "_high")]
    assert ends == sorted(ends)
    assert metrics["worst_corruption_accuracy"] <= metrics["robust_accuracy"] < metrics["accuracy"]
    assert f"evaluate: accuracy on corrupted images {metrics['robust_accuracy']:.4f} (95 % interval " in told
    assert {"robustness.csv", "robustness.png"} <= {path.name for path in (evaluated / "reports/evaluate").iterdir()}
    assert darkroom("register")[0] == 0
    found = collect()
    assert found.robust_accuracy() == metrics["robust_accuracy"]
    points = client.get_run(found.contender.run_id).data.metrics
    assert points["test/robust_accuracy_low"] == metrics["robust_accuracy_low"]

    path = stored(evaluated, "robustness.json")
    path.write_text(path.read_text().replace('"accuracy": 0', '"accuracy": 1', 1))
    refused(collect, "robustness.json is not the one that was registered")


@pytest.mark.parametrize("name", ["predictions.csv", "model.pt2"])
def test_a_file_that_was_changed_in_the_store_is_refused(collect, evaluated, name):
    path = stored(evaluated, name)
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    pattern = (
        rf"^version 1: {re.escape(name)} is not the one that was registered \(SHA-256 \w{{12}}, expected \w{{12}}\)"
    )
    assert refused(collect, pattern).endswith(f": changed in the store; {REGISTER_AGAIN}")


@pytest.mark.parametrize("name", ["predictions.csv", "model.pt2", "artifacts"])
def test_a_file_that_the_store_lacks_is_refused(collect, evaluated, name):
    for path in list((evaluated / "mlruns").rglob(name)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert refused(collect, r"^version 1: the store of run \w{32} lacks (runs|models):/").endswith(REGISTER_AGAIN)


@pytest.mark.parametrize("tag", [FINGERPRINT_TAG, PREDICTIONS_TAG, MODEL_TAG])
def test_a_version_without_digests_is_refused(collect, client, tag):
    client.delete_model_version_tag(NAME, "1", tag)
    assert refused(collect, f"^version 1: has no tag {tag}: another program registered it; ").endswith(REGISTER_AGAIN)


def test_deleting_the_run_takes_nothing_from_its_version(collect, evaluated, client):
    before = collect()
    (experiment,) = (each for each in client.search_experiments() if each.name == "darkroom")
    shutil.rmtree(evaluated / "mlruns" / str(client.get_model_version(NAME, "1").run_id))  # as `mlflow gc` does
    with closing(sqlite3.connect(evaluated / "mlflow.db")) as database, database:
        for table in ("tags", "params", "metrics", "latest_metrics", "runs"):
            database.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
    assert client.search_runs([experiment.experiment_id]) == []
    after = collect()
    assert after.answers.split == before.answers.split
    assert after.reference() == before.reference() is not None


def test_a_version_without_a_copy_of_the_evaluation_is_found_with_its_run(collect, evaluated, client):
    shutil.rmtree(stored(evaluated, "evaluate"))
    assert collect().reference() is not None
    known = client.get_model_version(NAME, "1")
    client.create_model_version(NAME, known.source, "f" * 32, tags=known.tags)
    refused(collect, r"^version 2: the store of run f{32} lacks runs:/f.*; is MLFLOW_TRACKING_URI that of this", "2")


def test_predictions_of_other_classes_than_the_models_are_refused(collect, evaluated, client):
    path = stored(evaluated, "predictions.csv")
    path.write_text(path.read_text().replace(",3,", ",three,", 1))
    client.set_model_version_tag(NAME, "1", PREDICTIONS_TAG, evaluated_model.sha256(path))
    refused(collect, r"^version 1: its predictions do not fit its model \(line \d+: no 'three'\)")


@pytest.mark.parametrize("lacking", ["classes", "shape"])
def test_a_model_of_another_program_is_refused(collect, evaluated, lacking):
    path = stored(evaluated, "MLmodel")
    path.write_text(path.read_text().replace(f"  {lacking}:", "  other:"))
    refused(collect, rf"^version 1: its predictions do not fit its model \('{lacking}'\)")


def test_a_store_that_does_not_answer_is_not_taken_for_one_that_lacks_a_file(collect, monkeypatch):
    def away(*arguments, **options):
        raise MlflowException("API request failed: Max retries exceeded")

    monkeypatch.setattr(evaluated_model, "download_artifacts", away)
    with pytest.raises(MlflowException, match="Max retries exceeded"):
        collect()
