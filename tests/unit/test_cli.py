"""The command line: what can be mended ends in one line and exit code 2."""

import errno
import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.unit.refusals import refused

from darkroom import __version__
from darkroom.cli import main as cli
from darkroom.errors import TrainingError
from darkroom.models import card as model_card
from darkroom.stages import train
from darkroom.tracking.store import Store


def test_the_version_is_told(darkroom):
    assert darkroom("--version") == (0, f"darkroom {__version__}\n", "")


def test_datasets_are_listed(darkroom):
    code, output, _ = darkroom("datasets")
    assert code == 0
    assert all(name in output for name in ("digits", "fashion-mnist", "cifar100", "folder"))


def test_models_are_listed_without_making_a_store(darkroom, project):
    (project() / "mlflow.db").unlink()
    code, output, _ = darkroom("models")
    assert code == 0
    assert "darkroom-digits: no version registered yet" in output
    assert not Path("mlflow.db").exists()


def test_architectures_are_listed_with_their_settings(darkroom):
    code, output, _ = darkroom("architectures")
    assert code == 0
    assert re.search(r"simple-cnn .*filters \[32, 64\]", output)


def test_a_directory_without_settings_is_refused(darkroom, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(darkroom("train"), r"params\.yaml: not found")


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"train__epoch": 3}, r"train\.epoch: unknown key; did you mean 'epochs'"),
        ({"train__lr": -1}, r"train\.lr: expected greater than 0, got -1"),
        ({"train__epochs": "many"}, r"train\.epochs: expected integer, got 'many'"),
        (
            {"dataset__name": "mnst"},
            r"dataset\.name: unknown value 'mnst'; did you mean 'mnist'.*choose from: digits, mnist",
        ),
        ({"model__name": "cnn"}, r"model\.name: unknown value 'cnn'; .*mlp, simple-cnn"),
    ],
)
def test_a_wrong_setting_is_refused_by_every_stage_before_any_work(darkroom, project, changes, pattern):
    root = project(**changes)
    for command in ("download", "preprocess", "search", "train", "evaluate", "register"):
        refused(darkroom(command), pattern)
    assert not (root / "data" / "raw").exists()


@pytest.mark.parametrize(
    ("command", "first"), [("preprocess", "download"), ("search", "preprocess"), ("train", "preprocess")]
)
def test_a_stage_names_the_one_that_must_run_before_it(darkroom, project, command, first):
    project()
    code, _, errors = darkroom(command)
    assert code == 2
    assert f"run `darkroom {first}`" in errors


def test_debug_shows_the_traceback_as_well(darkroom, project):
    project(train__lr=-1)
    code, _, errors = darkroom("--debug", "train")
    assert code == 2
    assert "Traceback" in errors
    assert "error: params.yaml: train.lr" in errors


def test_an_unknown_command_is_refused(darkroom):
    code, _, errors = darkroom("trian")
    assert code == 2
    assert "No such command 'trian'" in errors


def test_a_space_that_the_architecture_cannot_use_is_refused_before_the_first_trial(darkroom, project):
    root = project(model__name="mlp", search__space={"model": {"filters": {"choices": [8, 16]}}})
    for command in ("download", "preprocess"):
        assert darkroom(command)[0] == 0
    refused(darkroom("search"), r"search\.space\.model\.filters: mlp does not take it")
    assert not (root / "models" / "checkpoints").exists()


def test_a_device_that_is_not_there_is_refused(darkroom, trained, project, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    project(search__trials=0, train__device="cuda")
    refused(darkroom("train"), r"train\.device: cuda is not available here; choose from: auto")


def test_a_truncated_cache_is_refused(darkroom, trained):
    path = trained / "data" / "processed" / "digits" / "train.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    refused(darkroom("train"), r"train\.safetensors: missing or damaged .*run `darkroom preprocess` again")


def test_a_cache_of_another_format_version_is_refused(darkroom, trained):
    path = trained / "data" / "processed" / "digits" / "dataset.json"
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 99'))
    refused(darkroom("train"), r"dataset\.json: format version 99, this release reads version 2")


def test_a_model_of_another_dataset_is_refused(darkroom, trained, project):
    project(search__trials=0, train__epochs=1, preprocess__seed=1)
    assert darkroom("preprocess")[0] == 0
    refused(darkroom("evaluate"), r"model\.safetensors: trained on other data .*run `darkroom train` again")


def test_a_changed_weights_file_is_refused(darkroom, trained):
    path = trained / "models" / "model.safetensors"
    weights = load_file(path)
    next(iter(weights.values())).add_(1)
    save_file(weights, path)
    refused(darkroom("evaluate"), r"model\.safetensors: not the weights that .*run `darkroom train` again")


def test_a_model_file_of_another_format_version_is_refused(darkroom, trained):
    path = trained / "models" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 0}))
    refused(darkroom("evaluate"), rf"model\.json: format version 0, .* reads version {model_card.FORMAT_VERSION}")


def test_search_results_of_other_data_are_refused(darkroom, trained):
    path = trained / "models" / "search" / "best_params.json"
    path.write_text(json.dumps({"params": {}, "fingerprint": "0" * 64}))
    refused(darkroom("train"), r"best_params\.json: searched on another dataset")


def test_an_unreachable_tracking_server_is_refused(darkroom, trained, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert darkroom("evaluate")[0] == 0
    refused(
        darkroom("register"), r"MLflow store http://127\.0\.0\.1:9 cannot be used \(no connection\); start the server"
    )


def test_a_tracking_address_that_no_store_can_have_is_refused_before_the_training(darkroom, trained, monkeypatch):
    (trained / "models" / "model.json").unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "htp://127.0.0.1:5000")
    refused(darkroom("train"), r"MLFLOW_TRACKING_URI=htp://127\.0\.0\.1:5000: MLflow knows no htp: stores; did you")
    assert not (trained / "models" / "model.json").exists()


def test_a_training_whose_server_is_away_is_registered_when_it_is_back(darkroom, trained, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    code, _, messages = darkroom("train")
    assert code == 0
    assert messages.count("warning:") == 1
    assert "MLflow store http://127.0.0.1:9 does not answer (no connection); unsent data is kept in" in messages
    connect_to(monkeypatch, f"sqlite:///{trained}/mlflow.db")
    assert darkroom("evaluate")[0] == 0
    code, _, messages = darkroom("register")
    assert code == 0
    assert "lacks its model in this store; completed from the files" in messages
    client = MlflowClient(f"sqlite:///{trained}/mlflow.db")
    key = json.loads((trained / "models" / "model.json").read_text())["run_id"]
    experiment = client.get_experiment_by_name("darkroom").experiment_id
    (run,) = client.search_runs([experiment], f"tags.`darkroom.run` = '{key}'")
    assert run.info.status == "FINISHED"
    assert {"tracking/share", "test/accuracy", "best/val_loss"} <= run.data.metrics.keys()
    assert [point.step for point in client.get_metric_history(run.info.run_id, "val/loss")] == [1]
    assert len(run.outputs.model_outputs) == 1


def connect_to(monkeypatch, address):
    """Let what was http://127.0.0.1:9 be the store at ``address``, as if a server ran there again."""
    real = Store.connect
    monkeypatch.setattr(Store, "connect", lambda _, experiment: real(address, experiment))


@pytest.mark.slow
def test_the_test_split_is_read_by_evaluate_alone(darkroom, project):
    root = project(search__trials=1, search__epochs=1, train__epochs=1)
    for command in ("download", "preprocess"):
        assert darkroom(command)[0] == 0
    (root / "data" / "processed" / "digits" / "test.safetensors").unlink()
    for command in ("search", "train"):
        assert darkroom(command)[0] == 0
    refused(darkroom("evaluate"), r"test\.safetensors: missing or damaged")


def test_results_before_any_evaluation_are_refused(darkroom, project):
    project()
    refused(darkroom("results"), r"reports/evaluate: not found; run `dvc repro`")


def test_a_full_disk_is_told_and_nothing_is_half_written(darkroom, trained, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file() and path.suffix != ".db"}
    monkeypatch.setattr("os.posix_fallocate", full)
    refused(darkroom("preprocess"), r"disk full .*free some space and run the command again")
    after = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file() and path.suffix != ".db"}
    assert after == before


def test_a_failed_gpu_is_told_in_one_line(darkroom, monkeypatch, project):
    def failing(*arguments):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCompile with")

    project()
    monkeypatch.setattr(train, "run", failing)
    refused(
        darkroom("train"),
        r"the GPU failed \(CUDA error: an illegal memory access was encountered\); run the command again, with --debug",
    )


def test_a_bug_keeps_its_traceback(monkeypatch, project):
    def broken(*arguments):
        raise AssertionError("a bug")

    project()
    monkeypatch.setattr(train, "run", broken)
    monkeypatch.setattr(sys, "argv", ["darkroom", "train"])
    with pytest.raises(AssertionError, match="a bug"):
        cli.main()


def test_a_diverging_training_is_a_failed_run_with_its_reason(darkroom, trained, project):
    project(search__trials=0, train__lr=100.0, train__optimizer="sgd", train__epochs=3, train__clip_norm=None)
    code, _, errors = darkroom("train")
    assert code == 2
    assert re.search(r"error: epoch \d: the loss is no longer finite .*lower train\.lr", errors)
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{trained / 'mlflow.db'}")
    newest = client.search_runs([client.get_experiment_by_name("darkroom").experiment_id], max_results=1)[0]
    assert newest.info.status == "FAILED"
    assert "no longer finite" in newest.data.tags["darkroom.ended"]


def test_brackets_in_a_files_name_are_shown_as_they_are(darkroom, project):
    root = project(dataset__name="folder")
    for name in ("a/[red].png", "b/[bold].png"):
        path = root / "data" / "folder" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("not an image")
    assert darkroom("download")[0] == 0
    refused(darkroom("preprocess"), r"2 images cannot be decoded: a/\[red\]\.png \(not an image\); b/\[bold\]\.png")


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"model__name": "fast-cnn"}, r"model\.name: fast-cnn takes images of 17x17 pixels or more, these have 8x8"),
        ({"model__name": "resnet", "model__depth": 12}, r"model\.name: resnet takes images of 9x9"),
        ({"model__name": "wide-resnet", "model__depth": 12}, r"model\.depth: wide-resnet has 6n \+ 4 layers .* not 12"),
        ({"augment__cutout": 8}, r"augment\.cutout: 8 pixels leave nothing of images of 8x8; set it below 8"),
        ({"augment__translate": 9}, r"augment\.translate: 9 pixels leave nothing of images of 8x8; set it below 8"),
        (
            {"model__name": "pretrained", "model__weights_path": "none.pth"},
            r"none\.pth: no such file; expected weights as torch\.save writes a state_dict",
        ),
    ],
)
def test_what_the_images_do_not_allow_is_refused_before_training(darkroom, trained, project, changes, pattern):
    project(search__trials=0, **changes)
    refused(darkroom("train"), pattern)
    assert not (trained / "models" / "checkpoints" / "train.pt").exists()


def test_a_training_that_was_interrupted_says_where_it_resumes(darkroom, trained, project, monkeypatch):
    project(search__trials=0, train__epochs=3)
    report = train._EpochReport.__call__

    def interrupted(self, metrics):
        report(self, metrics)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train._EpochReport, "__call__", interrupted)
        assert darkroom("train")[0] == 130
    code, _, messages = darkroom("train")

    assert (code, "train: resuming after epoch 1 of 3" in messages) == (0, True)


@pytest.mark.usefixtures("drawn")
def test_a_learning_rate_is_suggested_and_its_curve_drawn(darkroom, trained):
    before = (trained / "params.yaml").read_bytes()
    code, output, _ = darkroom("lr-find", "--steps", "100")
    assert code == 0
    report = trained / "reports" / "lr-find"
    rate = json.loads((report / "suggestion.json").read_text())["lr"]
    assert f"suggested train.lr: {rate:.2g} (now 0.001)" in output
    with Image.open(report / "curve.png") as picture:
        assert picture.width > 600
    lines = (report / "curve.csv").read_text().splitlines()
    assert lines[0] == "lr,loss"
    assert str(rate) in {line.split(",")[0] for line in lines[1:]}
    assert (trained / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("fastest", ["fp32", "bf16"])
def test_a_learning_rate_is_found_in_the_precision_of_the_training(darkroom, trained, monkeypatch, tmp_path, fastest):
    tried = []

    def find(model, train, settings, *rest, **options):
        tried.append(settings.precision)
        raise TrainingError("enough")

    seconds = {"fp32": 1.0, "bf16": 1.0, fastest: 0.5}
    monkeypatch.setenv("DARKROOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("darkroom.training.precision.precisions", lambda device: ("fp32", "bf16"))
    monkeypatch.setattr("darkroom.training.precision.step_seconds", lambda *given: seconds)
    monkeypatch.setattr("darkroom.commands.lr_find.find_lr", find)
    refused(darkroom("lr-find"), "enough")

    assert tried == [fastest]


def test_a_learning_rate_needs_preprocessed_data(darkroom, project):
    project()
    refused(darkroom("lr-find"), r"dataset\.json: not found; run `darkroom preprocess`")


@pytest.mark.parametrize(("chosen", "spins"), [(None, "4000"), ("active", None)])
def test_threads_do_not_spin_for_long_unless_the_user_has_chosen(monkeypatch, chosen, spins):
    monkeypatch.setattr(cli, "app", lambda: None)
    monkeypatch.setenv("GOMP_SPINCOUNT", "")  # restored afterwards
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if chosen:
        monkeypatch.setenv("OMP_WAIT_POLICY", chosen)

    cli.main()

    assert os.environ.get("GOMP_SPINCOUNT") == spins
