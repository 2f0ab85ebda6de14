"""From a fresh clone to a registered model, with the commands that a person types."""

import csv
import json
import shutil

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from safetensors.torch import load_file

from darkroom.models.files import load_classifier

TRIALS = 6
REPEATS = 2
TRIAL_EPOCHS = 5
EPOCHS = 10


@pytest.fixture(scope="module")
def client(reproduced):
    return MlflowClient(f"sqlite:///{reproduced.root / 'mlflow.db'}")


@pytest.fixture(scope="module")
def runs(client) -> dict[str, list[Run]]:
    """All runs by kind."""
    experiment = client.get_experiment_by_name("darkroom")
    found: dict[str, list[Run]] = {}
    for run in client.search_runs([experiment.experiment_id]):
        found.setdefault(run.data.tags["darkroom.kind"], []).append(run)
    return found


@pytest.fixture
def run(reproduced, darkroom, monkeypatch):
    """Run a command line in the clone, in this process; gives standard output and standard error."""
    monkeypatch.chdir(reproduced.root)

    def run(*arguments):
        code, output, errors = darkroom(*arguments)
        assert not code, errors
        return output, errors

    return run


def read(reproduced, name):
    return json.loads((reproduced.root / name).read_text())


def test_half_the_default_epochs_reach_97_percent(reproduced):
    summary = read(reproduced, "reports/evaluate/metrics.json")
    assert summary["images"] == 360
    assert summary["accuracy"] >= 0.97
    assert summary["accuracy_low"] < summary["accuracy"] < summary["accuracy_high"]


def test_a_run_reaches_for_no_network(reproduced):
    assert not reproduced.network_log.exists(), reproduced.network_log.read_text()


def test_the_tree_stays_as_it_was_committed_but_for_the_lock_file(reproduced):
    changed = reproduced.run("git", "status", "--porcelain").stdout.split()
    assert changed == ["??", "dvc.lock"]


def test_every_figure_and_table_is_there(reproduced):
    reports = reproduced.root / "reports"
    found = {str(path.relative_to(reports)) for path in reports.rglob("*") if path.is_file()}
    gallery = {path for path in found if path.startswith("evaluate/gallery/") and path.endswith(".png")}
    assert len(gallery) == 30
    assert found - gallery == {
        "preprocess/report.json", "preprocess/class_balance.png", "preprocess/samples.png",
        "preprocess/files.csv.gz",
        "search/summary.json", "search/trials.csv", "search/report.md", "search/repeats.png", "search/history.png",
        "search/curves.png", "search/importances.png", "search/slices.png", "search/parallel_coordinates.png",
        "train/history.csv", "train/curves.png", "train/metrics.json",
        "evaluate/metrics.json", "evaluate/per_class.json", "evaluate/classification_report.txt",
        "evaluate/confusion_matrix.json", "evaluate/confusion_matrix.csv", "evaluate/confusion_matrix.png",
        "evaluate/class_scores.png", "evaluate/predictions.csv", "evaluate/predictions.png",
        "evaluate/worst_mistakes.png", "evaluate/identity.json", "evaluate/slices.json", "evaluate/slices.png",
        "evaluate/reference.json", "evaluate/gallery.json", "evaluate/index.html", "evaluate/explained_mistakes.png",
        "evaluate/class_maps.png",
    }  # fmt: skip


def test_the_confusion_matrix_the_predictions_and_the_accuracy_agree(reproduced):
    accuracy = read(reproduced, "reports/evaluate/metrics.json")["accuracy"]
    confusion = np.array(read(reproduced, "reports/evaluate/confusion_matrix.json")["counts"])
    assert confusion.trace() / confusion.sum() == pytest.approx(accuracy)
    with (reproduced.root / "reports/evaluate/predictions.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert np.mean([row["actual"] == row["predicted"] for row in rows]) == pytest.approx(accuracy)
    with (reproduced.root / "reports/evaluate/confusion_matrix.csv").open(newline="") as opened:
        table = [row[1:] for row in csv.reader(opened)][1:]
    assert np.array(table, dtype=int).tolist() == confusion.tolist()


def test_every_run_has_ended_and_says_how(runs, reproduced):
    candidates = read(reproduced, "models/search/best_params.json")["evidence"]["candidates"]
    repeats = sum(candidate["n"] for candidate in candidates)
    expected = {"search": 1, "trial": TRIALS, "repeat": repeats, "train": 1}
    assert {kind: len(found) for kind, found in runs.items()} == expected
    assert {run.data.tags["trial.state"] for run in runs["repeat"]} == {"complete"}
    assert {run.info.status for found in runs.values() for run in found} == {"FINISHED"}
    states = [run.data.tags["trial.state"] for run in runs["trial"]]
    assert all(state == "complete" or state.startswith("pruned after epoch") for state in states)


def test_pruned_trials_and_repeats_are_told_from_finished_trials_by_their_names(runs):
    for run in runs["trial"]:
        state = run.data.tags["trial.state"]
        expected = f"trial {run.data.tags['trial.number']}"
        assert run.info.run_name == (expected if state == "complete" else f"{expected}, {state}")
    for run in runs["repeat"]:
        trial = run.data.tags["trial.repeat_of"]
        of = f"trial {trial}" if trial.isdecimal() else trial
        assert run.info.run_name == f"repeat {of}, seed {run.data.tags['trial.seed']}"


def test_pruned_trials_have_trained_fewer_epochs_than_complete_ones(runs, client):
    for run in runs["trial"]:
        epochs = len(client.get_metric_history(run.info.run_id, "val/accuracy"))
        state = run.data.tags["trial.state"]
        assert epochs == (TRIAL_EPOCHS if state == "complete" else int(state.rpartition(" ")[2]))


def test_trials_are_children_of_the_search(runs):
    (search,) = runs["search"]
    children = [*runs["trial"], *runs["repeat"]]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {search.info.run_id}


def test_the_best_settings_are_those_of_the_best_mean_over_seeds(reproduced):
    found = read(reproduced, "models/search/best_params.json")
    candidates = found["evidence"]["candidates"]
    assert {len(candidate["values"]) for candidate in candidates} == {REPEATS}
    best = max(candidate["mean"] for candidate in candidates)
    assert found["value"] == pytest.approx(best)
    assert found["params"] in [candidate["settings"] for candidate in candidates if candidate["mean"] == best]


def test_the_models_run_holds_settings_curves_facts_and_data(runs, client, reproduced):
    (run,) = runs["train"]
    best = read(reproduced, "models/search/best_params.json")["params"]
    assert float(run.data.params["train.lr"]) == pytest.approx(best["train.lr"])
    assert json.loads(run.data.params["model.filters"]) == [32, 64]
    assert run.data.params["preprocess.val_fraction"] == "0.1"
    history = client.get_metric_history(run.info.run_id, "val/loss")
    assert sorted(point.step for point in history) == list(range(1, EPOCHS + 1))
    assert run.data.metrics["test/accuracy"] == read(reproduced, "reports/evaluate/metrics.json")["accuracy"]
    commit = reproduced.run("git", "rev-parse", "HEAD").stdout.strip()
    assert run.data.tags["mlflow.source.git.commit"] == commit
    assert run.data.tags["darkroom.git_dirty"] == "false"
    assert run.data.tags["system.torch"] == torch.__version__.partition("+")[0] or torch.__version__
    (data,) = run.inputs.dataset_inputs
    assert read(reproduced, "data/processed/digits/dataset.json")["fingerprint"].startswith(data.dataset.digest)
    artifacts = {
        artifact.path
        for name in ("preprocess", "train", "evaluate")
        for artifact in client.list_artifacts(run.info.run_id, name)
    }
    assert {
        "train/curves.png",
        "evaluate/confusion_matrix.png",
        "evaluate/predictions.csv",
        "preprocess/report.json",
    } <= artifacts


def test_the_first_version_is_champion_and_challenger(client, runs):
    version = client.get_model_version_by_alias("darkroom-digits", "champion")
    assert sorted(version.aliases) == ["challenger", "champion"]
    assert version.run_id == runs["train"][0].info.run_id


def test_the_registered_model_takes_raw_pixels_and_answers_as_the_trained_one(reproduced, client):
    mlflow.set_tracking_uri(client.tracking_uri)
    registered = mlflow.pytorch.load_model("models:/darkroom-digits@champion")
    classifier, _ = load_classifier(reproduced.root / "models/model.safetensors", reproduced.root / "models/model.json")
    images = load_file(reproduced.root / "data/processed/digits/test.safetensors")["images"]
    for count in (1, 7, len(images)):
        torch.testing.assert_close(registered(images[:count]), classifier(images[:count]), rtol=1e-4, atol=1e-4)
    served = mlflow.pyfunc.load_model("models:/darkroom-digits@champion")
    np.testing.assert_allclose(
        served.predict(images[:3].numpy()), classifier(images[:3]).detach(), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(mlflow.exceptions.MlflowException, match="float32"):
        served.predict(images[:3].numpy().astype(np.float32) / 255)


def test_a_second_repro_runs_nothing(reproduced):
    lock = (reproduced.root / "dvc.lock").read_text()
    ended = reproduced.run("dvc", "repro")
    assert "Data and pipelines are up to date" in ended.stdout
    assert "Running stage" not in ended.stdout
    assert (reproduced.root / "dvc.lock").read_text() == lock


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("lr: 0.001 ", "lr: 0.002 ", ["search", "train"]),
        ("top_k: 3", "top_k: 2", ["evaluate"]),
        ("alpha: 0.05", "alpha: 0.01", ["register"]),
        ("trials: 6", "trials: 7", ["search"]),
        ("val_fraction: 0.1", "val_fraction: 0.2", ["preprocess"]),
        ("mirror: ", "mirror: elsewhere", ["download"]),
    ],
)
def test_a_changed_setting_makes_only_its_own_stages_stale(reproduced, old, new, stale):
    params = reproduced.root / "params.yaml"
    written = params.read_text()
    assert written.count(old) == 1
    try:
        params.write_text(written.replace(old, new))
        status = json.loads(reproduced.run("dvc", "status", "--json").stdout)
    finally:
        params.write_text(written)
    assert list(status) == stale


def test_dvc_shows_metrics_and_plots(reproduced, tmp_path):
    shown = json.loads(reproduced.run("dvc", "metrics", "show", "--json").stdout)
    found = shown[""]["data"]
    assert found["reports/evaluate/metrics.json"]["data"] == read(reproduced, "reports/evaluate/metrics.json")
    reproduced.run("dvc", "plots", "show", "--out", str(tmp_path))
    page = (tmp_path / "index.html").read_text()
    pictures = sorted(path.name for path in (tmp_path / "static").iterdir())
    assert [name.split("_", 1)[1] for name in pictures] == [
        "reports_evaluate_confusion_matrix.png",
        "reports_train_curves.png",
    ]
    assert "Confusion matrix" in page
    assert "val_accuracy" in page


def test_evaluating_the_same_model_again_makes_no_second_version(run, client):
    _, messages = run("register")
    assert "already registered as darkroom-digits version 1" in messages
    assert len(client.search_model_versions("name = 'darkroom-digits'")) == 1


def test_a_store_that_lacks_the_run_gets_it_rebuilt_from_the_files(run, tmp_path, runs, monkeypatch, empty_store):
    other = f"sqlite:///{shutil.copyfile(empty_store, tmp_path / 'other.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    assert "rebuilt from the files" in run("register")[1]
    assert "already registered" in run("register")[1]
    client = MlflowClient(other)
    (rebuilt,) = client.search_runs([client.get_experiment_by_name("darkroom").experiment_id])
    (original,) = runs["train"]
    assert rebuilt.info.status == "FINISHED"
    assert rebuilt.data.params == original.data.params
    # No file says how much of the machine was used.
    kept = {key: value for key, value in original.data.metrics.items() if not key.startswith("system/")}
    for key, value in kept.items():
        assert rebuilt.data.metrics[key] == pytest.approx(value), key
    assert len(client.get_metric_history(rebuilt.info.run_id, "train/loss")) == EPOCHS


def test_predict_answers_with_the_champion(reproduced, run, tmp_path):
    from PIL import Image

    images = load_file(reproduced.root / "data/processed/digits/test.safetensors")
    paths = []
    for row in range(5):
        paths.append(str(tmp_path / f"{row}.png"))
        Image.fromarray(images["images"][row, 0].numpy()).save(paths[-1])
    answer = json.loads(run("predict", "--json", *paths)[0])
    with (reproduced.root / "reports/evaluate/predictions.csv").open(newline="") as opened:
        expected = list(csv.DictReader(opened))[:5]
    assert [each["label"] for each in answer["predictions"]] == [row["predicted"] for row in expected]
    classifier, _ = load_classifier(reproduced.root / "models/model.safetensors", reproduced.root / "models/model.json")
    temperature = json.loads((reproduced.root / "reports/evaluate/reference.json").read_text())["temperature"]
    with torch.no_grad():
        calibrated = (classifier(images["images"][:5]) / temperature).softmax(1)
    for each, row in zip(answer["predictions"], calibrated.tolist(), strict=True):
        assert list(each["probabilities"].values()) == pytest.approx(sorted(row, reverse=True), abs=1e-4)


def test_results_and_models_name_the_registered_version(run):
    assert "darkroom-digits version 1 (challenger, champion)" in run("results")[0]
    assert "champion" in run("models")[0]
