"""`darkroom compare` on a real registry: what it shows, what it writes, and what it refuses."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.stages import inside, run_stages

from darkroom.commands import compare
from darkroom.config import load
from darkroom.errors import TrackingError
from darkroom.evaluation import latency
from darkroom.promotion.evaluated_model import load_evaluated_model
from darkroom.promotion.registry import find
from darkroom.tracking.tracker import connect
from darkroom.workspace import Workspace

NAME = "darkroom-digits"
FILES = {
    "comparison.json",
    "comparison.md",
    "confusion_difference.csv",
    "confusion_difference.png",
    "disagreements.csv",
    "disagreements.png",
}


@pytest.fixture(scope="module", autouse=True)
def few_timed_calls():
    """tests/unit/evaluation/test_latency.py looks at how the models are timed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "ROUNDS", 1)
        patch.setattr(latency, "CALLS", 5)
        yield


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory, empty_store, write_params):
    """A project with a champion of one epoch and a challenger of four."""
    root = tmp_path_factory.mktemp("project")
    (root / "mlflow.db").write_bytes(empty_store.read_bytes())
    write_params(root, model__name="mlp", search__trials=0, train__epochs=1)
    run_stages(root)
    write_params(root, model__name="mlp", search__trials=0, train__epochs=4)
    run_stages(root, "train", "evaluate", "register")
    return root


@pytest.fixture
def client(two_versions, monkeypatch):
    monkeypatch.chdir(two_versions)
    return connect(load(Path("params.yaml")).tracking, Workspace().spools).client


@pytest.fixture(scope="module")
def report(two_versions, tmp_path_factory):
    """What is written of versions 1 and 2."""
    with inside(two_versions):
        return Path(shutil.copytree(compared("1", "2"), tmp_path_factory.mktemp("report") / "compare"))


def compared(a, b, *, as_json=False):
    compare.run(load(Path("params.yaml")), Workspace(), a, b, as_json=as_json)
    return Path("reports", "compare")


@pytest.mark.usefixtures("drawn")
def test_a_comparison_is_shown_written_and_logged_with_the_challenger(client, capsys):
    written = compared("champion", "challenger")

    assert {path.name for path in written.iterdir()} == FILES
    shown = capsys.readouterr().out
    found = json.loads((written / "comparison.json").read_text())
    assert shown.startswith("Version 2 is better: version 2 classifies ")
    assert f"{found['accuracy']['b']['value']:.4f}" in shown
    assert "class recall" in shown
    challenger = find(client, NAME, "challenger")
    assert {Path(each.path).name for each in client.list_artifacts(challenger.run_id, "compare/1-2")} == FILES


def test_the_figures_are_those_of_the_evaluations(client, report):
    found = json.loads((report / "comparison.json").read_text())

    assert found["images"] == 360
    for side, version in (("a", "1"), ("b", "2")):
        tags = client.get_model_version(NAME, version).tags
        assert found["accuracy"][side]["value"] == pytest.approx(float(tags["test.accuracy"]), rel=1e-5)
        assert found["accuracy"][side]["low"] == pytest.approx(float(tags["test.accuracy_low"]), rel=1e-5)
        # predictions.csv holds six digits of each confidence.
        assert found["calibration_error"][side] == pytest.approx(float(tags["test.calibration_error"]), abs=1e-5)
    assert found["gate"]["passed"] is True
    assert found["gate"]["statistics"]["p_better"] == found["p_better"]


def test_the_tables_agree_with_the_json(report):
    found = json.loads((report / "comparison.json").read_text())

    with (report / "confusion_difference.csv").open(newline="") as opened:
        header, *rows = csv.reader(opened)
    assert header[1:] == [row[0] for row in rows] == found["classes"]
    assert [[int(cell) for cell in row[1:]] for row in rows] == found["confusion"]["difference"]
    with (report / "disagreements.csv").open(newline="") as opened:
        lines = list(csv.DictReader(opened))
    assert len(lines) == found["disagreements"]
    assert sum(line["right"] == "b" for line in lines) == found["table"]["images"][1][0]


def test_json_is_all_that_is_printed_where_it_is_asked_for(client, capsys):
    written = compared("1", "2", as_json=True)

    assert json.loads(capsys.readouterr().out) == json.loads((written / "comparison.json").read_text())


def test_runs_are_compared_without_the_gate(client):
    run_id = find(client, NAME, "1").run_id

    found = json.loads((compared(run_id, "2") / "comparison.json").read_text())

    assert (found["a"]["name"], found["a"]["run_id"]) == (f"run {run_id[:8]}", run_id)
    assert found["gate"] is None


@pytest.mark.parametrize("other", ["1", "champion", f"models:/{NAME}/1", "run"])
def test_a_model_is_not_compared_with_itself(client, other):
    reference = find(client, NAME, "1").run_id if other == "run" else other

    with pytest.raises(TrackingError, match=f"^1 and {reference} are the same model, version 1; name two"):
        compared("1", reference)


@pytest.fixture
def other_data(client):
    """Version 1 is of other data, as its fingerprint says."""
    fingerprint = find(client, NAME, "1").tags["darkroom.fingerprint"]
    client.set_model_version_tag(NAME, "1", "darkroom.fingerprint", "e" * 64)
    yield
    client.set_model_version_tag(NAME, "1", "darkroom.fingerprint", fingerprint)


def test_models_of_different_data_are_compared_on_the_test_images_of_both(other_data, capsys):
    written = compared("1", "2")

    shown = capsys.readouterr().out
    assert "of the 360 test images that both datasets share correctly" in shown
    scope = "The models are of different data: 360 test images are in both test splits (360 and 360 images)."
    assert scope in shown
    assert scope in (written / "comparison.md").read_text()
    found = json.loads((written / "comparison.json").read_text())
    assert found["pairing"]["shared"] == found["images"] == 360
    assert [each["passed"] for each in found["gate"]["checks"] if each["rule"] == "same_data"] == [True]


def test_models_of_different_data_without_test_images_in_common_are_refused(other_data, monkeypatch):
    def other_images(client, contender, directory):
        found = load_evaluated_model(client, contender, directory)
        turned = found.answers.digests[:, ::-1] if contender.version == "1" else found.answers.digests
        return replace(found, answers=replace(found.answers, digests=turned))

    monkeypatch.setattr(compare, "load_evaluated_model", other_images)

    with pytest.raises(
        TrackingError,
        match=r"^version 1 and version 2 are of different data \(e{12} and \w{12}\): 0 test images are in both test "
        r"splits \(360 and 360 images\), and 5 are the fewest .* at gate.alpha 0.05; `darkroom data-diff 1 2` shows",
    ):
        compared("1", "2")


def test_a_version_that_is_not_there_is_refused_with_those_that_are(client):
    with pytest.raises(TrackingError, match=r"^7: .*choose from: 2, 1, challenger, champion"):
        compared("champion", "7")


def test_a_refusal_leaves_the_last_report_as_it_was(client):
    written = compared("1", "2")
    before = (written / "comparison.json").read_bytes()

    with pytest.raises(TrackingError):
        compared("1", "1")

    assert (written / "comparison.json").read_bytes() == before


@pytest.fixture
def no_cache(client):
    """The images are not on this machine, as on a colleague's who only looks at the registry."""
    place = Path("data", "processed", "digits")
    place.rename("away")
    yield
    Path("away").rename(place)


def test_without_the_images_all_but_their_pictures_is_there(no_cache, capsys):
    written = compared("1", "2")

    assert {path.name for path in written.iterdir()} == FILES - {"disagreements.png"}
    said = capsys.readouterr().err
    assert "the images on which they disagree are not drawn (data/processed/digits: does not hold the test" in said


def test_a_gate_that_needs_the_images_is_not_asked_without_them(no_cache, write_params, capsys):
    write_params(Path(), model__name="mlp", gate__export="pt2")

    found = json.loads((compared("1", "2") / "comparison.json").read_text())

    assert found["gate"] is None
    assert "the gate was not evaluated (data/processed/digits: does not hold" in capsys.readouterr().err


def test_a_gate_that_needs_a_missing_package_is_not_asked(client, write_params, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    write_params(Path(), model__name="mlp", gate__export="onnx")

    found = json.loads((compared("1", "2") / "comparison.json").read_text())

    assert found["gate"] is None
    assert "the gate was not evaluated (the ONNX format needs onnxruntime" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["pt2", "onnx"])
def test_the_registered_models_give_the_recorded_answers(client, write_params, form):
    write_params(Path(), model__name="mlp", gate__export=form)

    found = json.loads((compared("1", "2") / "comparison.json").read_text())

    check = next(each for each in found["gate"]["checks"] if each["rule"] == "export")
    assert (check["value"], check["passed"]) == ("0 of 360 answers differ", True)
