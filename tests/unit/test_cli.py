"""The command line: what can be mended ends in one line and exit code 2."""

import errno
import json
import os
import re
import shutil
import sys
from pathlib import Path

import optuna
import pytest
import torch
from mlflow import MlflowClient
from optuna.trial import TrialState
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.defaults import copy_recipes
from tests.stages import run_stages

from darkroom import __version__
from darkroom.cli import main as cli
from darkroom.config import load, parse
from darkroom.errors import DarkroomError, SearchError, TrainingError
from darkroom.models import card as model_card
from darkroom.models import files as model_files
from darkroom.models.classifier import build_classifier
from darkroom.search.attributes import FAILURE, OPENED
from darkroom.search.storage import open_storage
from darkroom.stages import train
from darkroom.tracking.relocation import relocate
from darkroom.tracking.store import Store
from darkroom.training.precision import Precision
from darkroom.workspace import Workspace


def refused(result, pattern):
    code, output, errors = result
    assert code == DarkroomError.exit_code == 2
    assert output == ""
    lines = errors.splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    assert re.search(pattern, lines[0]), lines[0]


QUICK = {"search__trials": 0, "train__epochs": 1}


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory, empty_store, write_params):
    """A directory in which everything but the evaluation was run."""
    root = tmp_path_factory.mktemp("trained")
    write_params(root, **QUICK)
    shutil.copyfile(empty_store, root / "mlflow.db")
    run_stages(root, "download", "preprocess", "search", "train")
    return root


@pytest.fixture
def trained(project, trained_once):
    """A project of one's own, trained and not evaluated."""
    root = project(**QUICK)
    shutil.copytree(trained_once, root, dirs_exist_ok=True)
    relocate(root / "mlflow.db")
    return root


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
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 99'))
    refused(darkroom("train"), r"dataset\.json: format version 99, this release reads version 1")


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


def test_predict_needs_a_champion(darkroom, project, tmp_path):
    project()
    picture = tmp_path / "1.png"
    picture.write_bytes(b"")
    refused(darkroom("predict", str(picture)), r"'darkroom-digits' has no champion; `dvc repro` trains")


def test_predict_needs_a_store(darkroom, project):
    root = project()
    (root / "mlflow.db").unlink()
    (root / "1.png").write_bytes(b"")
    refused(darkroom("predict", "1.png"), r"no MLflow store at sqlite:.*mlflow\.db; `dvc repro` trains")


@pytest.fixture
def searchable(darkroom, project):
    """Make a project with data and a search of two short trials, with changes to its settings; gives its root."""
    few = {"train": {"batch_size": {"choices": [64, 128, 256]}}}
    short = {"model__name": "mlp", "search__space": few, "search__trials": 2, "search__epochs": 1}

    def make(**changes):
        root = project(**short | changes)
        if not (root / "data" / "processed").exists():
            for command in ("download", "preprocess"):
                assert darkroom(command)[0] == 0
        return root

    return make


def studies(root):
    storage = open_storage(load(root / "params.yaml"), root / "models" / "checkpoints" / "study.journal")
    return [name for name in optuna.get_all_study_names(storage) if not name.endswith("-repeats")]


def test_a_search_can_be_resumed_or_begun_anew(darkroom, searchable):
    root = searchable()
    for option in ((), ("--resume",), ("--fresh",), ("--resume",)):
        assert darkroom("search", *option)[0] == 0

    first, second = sorted(studies(root))
    assert second == f"{first}-2"
    assert json.loads((root / "reports" / "search" / "summary.json").read_text())["study"] == second


def test_a_second_search_says_that_nothing_was_left_to_try_and_the_trials_which_was_chosen(darkroom, searchable):
    searchable(search__repeats=2, search__finalists=1)
    _, _, first = darkroom("search")
    _, _, second = darkroom("search")

    assert "no new trials" not in first
    assert re.search(r"^search: no new trials; \S+ has all 2$", second, re.MULTILINE)
    verdict = second.splitlines()[-1].removeprefix("search: ")
    assert "over 2 seeds" in verdict
    assert darkroom("trials")[1].splitlines()[-1] == verdict


def test_a_precision_that_is_not_there_is_refused_before_a_study_is_made(darkroom, searchable):
    root = searchable(train__precision="fp16", train__device="cpu")
    refused(darkroom("search"), r"train\.precision: fp16 needs a CUDA GPU, and this trains on cpu")
    assert not (root / "models" / "checkpoints" / "study.journal").exists()


def test_a_search_for_something_else_is_not_resumed(darkroom, searchable):
    root = searchable()
    assert darkroom("search")[0] == 0
    before = studies(root)

    searchable(train__weight_decay=0.5)
    refused(
        darkroom("search", "--resume"), r"train\.weight_decay: was 0\.01, is 0\.5\); .* start a new one with --fresh$"
    )
    assert studies(root) == before
    assert darkroom("search", "--fresh")[0] == 0
    assert len(studies(root)) == 2


def test_a_search_that_was_never_begun_is_not_resumed(darkroom, searchable):
    searchable()
    refused(darkroom("search", "--resume"), r"--resume: there is no study to resume; leave it out to start one$")


def test_a_search_is_not_resumed_and_begun_anew_at_once(darkroom, project):
    project()
    refused(
        darkroom("search", "--resume", "--fresh"), r"--resume resumes .* --fresh begins a new one; give one of them$"
    )


@pytest.mark.parametrize(("executor", "precision"), [("local", "bf16"), ("ray", "auto")])
def test_workers_get_the_settings_as_written_in_the_precision_that_was_chosen(
    darkroom, searchable, monkeypatch, executor, precision
):
    given = []

    def no_slots(config, *rest):
        given.append(config)
        raise SearchError("no slots")

    monkeypatch.setattr("darkroom.stages.search.open_slots", no_slots)
    monkeypatch.setattr("darkroom.stages.search.fastest_precision", lambda *given: Precision("bf16", {}))
    root = searchable(search__executor=executor)
    refused(darkroom("search"), "no slots")

    (config,) = given
    assert config.train.precision == precision
    assert config.search == load(root / "params.yaml").search


@pytest.mark.parametrize("fuse", ["off", 2])
def test_a_device_that_fails_ends_the_search_and_no_trial_is_blamed(darkroom, searchable, monkeypatch, fuse):
    root = searchable(search__fuse=fuse, search__space={"train": {"lr": {"low": 1e-4, "high": 0.1}}})
    validated = []

    def fail(*given):
        validated.append(given)
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    with monkeypatch.context() as patched:
        patched.setattr("darkroom.training.loop.evaluate", fail)
        with pytest.raises(torch.AcceleratorError, match=r"^CUDA error"):
            darkroom("search")

    assert len(validated) == 1
    assert darkroom("search", "--resume")[0] == 0
    (name,) = studies(root)
    storage = open_storage(load(root / "params.yaml"), root / "models" / "checkpoints" / "study.journal")
    trials = optuna.load_study(study_name=name, storage=storage).trials
    assert not [trial for trial in trials if FAILURE in trial.user_attrs]
    assert sum(trial.state is TrialState.COMPLETE for trial in trials) == 2


def test_a_search_without_a_compiler_is_refused_before_its_first_trial(darkroom, searchable):
    root = searchable(train__compile="default", train__precision="fp32")

    with torch._inductor.config.patch({"cpp.cxx": (None, "/no/such/compiler")}):
        refused(darkroom("search"), r"train\.compile: default does not work here \(.*; set it to none, or install the")
    assert not (root / "models" / "checkpoints").exists()


@pytest.mark.parametrize("second", ["latency", "parameters"])
def test_a_search_weighs_two_objectives(darkroom, searchable, second):
    space = {"model": {"hidden": {"choices": [[8], [16, 8]]}}}
    changes = {"search__second_objective": second, "search__pruner": "none", "search__sampler": "grid"}
    root = searchable(search__space=space, **changes)

    assert darkroom("search")[0] == 0

    (name,) = studies(root)
    storage = open_storage(load(root / "params.yaml"), root / "models" / "checkpoints" / "study.journal")
    study = optuna.load_study(study_name=name, storage=storage)
    costs = {trial.params["model.hidden"]: trial.values[1] for trial in study.trials}
    if second == "parameters":
        assert costs == {"[8]": 64 * 8 + 8 + 8 * 10 + 10, "[16, 8]": 64 * 16 + 16 + 16 * 8 + 8 + 8 * 10 + 10}
    assert len(costs) == 2
    assert min(costs.values()) > 0


def test_a_configuration_that_was_tried_is_a_run_that_says_so(darkroom, searchable):
    root = searchable(search__trials=8, search__sampler="random")

    assert darkroom("search")[0] == 0

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("darkroom").experiment_id
    runs = client.search_runs([experiment], "tags.`trial.duplicate_of` != ''")
    assert len(runs) == 5
    assert {run.info.status for run in runs} == {"FINISHED"}


@pytest.mark.slow
def test_the_test_split_is_read_by_evaluate_alone(darkroom, project):
    root = project(search__trials=1, search__epochs=1, train__epochs=1)
    for command in ("download", "preprocess"):
        assert darkroom(command)[0] == 0
    (root / "data" / "processed" / "digits" / "test.safetensors").unlink()
    for command in ("search", "train"):
        assert darkroom(command)[0] == 0
    refused(darkroom("evaluate"), r"test\.safetensors: missing or damaged")


def test_predict_refuses_files_that_are_not_there_or_no_images(darkroom, trained, tmp_path):
    refused(darkroom("predict", "nowhere.png"), r"nowhere\.png: no such file")
    for command in ("evaluate", "register"):
        assert darkroom(command)[0] == 0
    (tmp_path / "text.png").write_text("not an image")
    refused(
        darkroom("predict", str(tmp_path / "text.png")), r"text\.png: cannot be decoded \(not an image; expected png, "
    )


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


# --- recipes -------------------------------------------------------------------------------------------


@pytest.fixture
def with_recipes(project):
    """A project whose params.yaml was edited and is not in git, with the shipped recipes."""
    root = project(train__epochs=7)
    copy_recipes(root)
    return root


def test_recipes_are_listed_with_what_they_reach(darkroom, with_recipes):
    run = {"accuracy": 0.9, "train_seconds": 12}
    facts = {"device": "abacus", "threads": 2, "precision": "fp32"}
    entry = {"runs": [run, run], "conditions": facts, "changes": {}, "preparation_seconds": 1}
    (with_recipes / "recipes" / "measured.json").write_text(json.dumps({"mnist-mlp": entry}))
    code, output, _ = darkroom("recipe", "list")
    assert code == 0
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.strip()}
    assert rows["mnist-mlp"] == ["mnist", "mlp", "90.00", "±", "0.00", "2", "12"]
    assert rows["cifar10-best"] == ["cifar10", "fast-cnn", "not", "measured"]
    assert "on abacus, 2 threads, fp32" in output


def test_a_recipe_is_shown_as_it_is_used(darkroom, with_recipes):
    code, text, errors = darkroom("recipe", "show", "mnist-mlp")
    assert (code, errors) == (0, "")
    assert darkroom("recipe", "use", "mnist-mlp", "--force")[0] == 0
    assert (with_recipes / "params.yaml").read_text() == text


def test_using_a_recipe_asks_for_force_where_edits_would_be_lost(darkroom, with_recipes):
    refused(darkroom("recipe", "use", "mnist-mlp"), r"params\.yaml: has edits that are saved nowhere else; .*--force")
    assert load(with_recipes / "params.yaml").train.epochs == 7
    code, output, _ = darkroom("recipe", "use", "mnist-mlp", "--force")
    assert code == 0
    assert "params.yaml is now the recipe mnist-mlp" in output
    assert load(with_recipes / "params.yaml").recipe.name == "mnist-mlp"


def test_a_recipe_that_says_nothing_of_itself_is_used(darkroom, with_recipes):
    (with_recipes / "recipes" / "mine.yaml").write_text("train: {epochs: 8}\n")
    output = "params.yaml is now the recipe mine. Run `dvc repro`.\n"
    assert darkroom("recipe", "use", "mine", "--force") == (0, output, "")


@pytest.mark.parametrize("command", ["show", "use"])
def test_an_unknown_recipe_is_refused(darkroom, with_recipes, command):
    refused(darkroom("recipe", command, "mnist-mpl"), r"no recipe 'mnist-mpl'; did you mean 'mnist-mlp'")


# --- refusals of models and augmentations ----------------------------------------------------------------


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
    project(**QUICK | {"train__epochs": 3})
    report = train._EpochReport.__call__

    def interrupted(self, metrics):
        report(self, metrics)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train._EpochReport, "__call__", interrupted)
        assert darkroom("train")[0] == 130
    code, _, messages = darkroom("train")

    assert (code, "train: resuming after epoch 1 of 3" in messages) == (0, True)


# --- exporting, and asking what was exported ---------------------------------------------------------------


def test_an_exported_file_is_a_plain_state_dict_that_the_architecture_takes(darkroom, trained):
    assert darkroom("export", "--format", "pth", "--output", "out/digits.pth")[0] == 0
    weights = torch.load("out/digits.pth", weights_only=True)
    card = model_card.ModelCard.read(Path("out/digits.json"))
    classifier = build_classifier(parse(card.settings, where="").model, card.dataset_card)
    classifier.load_state_dict(weights)
    original, _ = model_files.load_classifier(trained / "models/model.safetensors", trained / "models/model.json")
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(classifier.eval()(images), original(images))


def test_an_exported_file_answers_for_a_picture_without_data_or_store(darkroom, trained, tmp_path_factory):
    assert darkroom("export", "--format", "pth")[0] == 0
    Image.new("RGB", (70, 90), "white").save(trained / "picture.jpg")
    for path in ("data", "mlruns"):
        shutil.rmtree(trained / path, ignore_errors=True)
    (trained / "mlflow.db").unlink()
    code, output, errors = darkroom("predict", "--weights", "models/exported/model.pth", "picture.jpg", "--json")
    assert code == 0
    answer = json.loads(output)
    assert answer["version"] == "models/exported/model.pth"
    assert answer["predictions"][0]["inverted"] is False
    # A file of weights does not tell that all digits lie on a dark ground.
    assert "1 of 1 have another background, dark or light, than most training images probably have" in errors
    assert "try again with --invert" in errors
    assert answer["predictions"][0]["unlike_training"] is False  # a file of weights tells nothing of that
    assert sum(answer["predictions"][0]["probabilities"].values()) == pytest.approx(1)
    code, output, errors = darkroom("predict", "--weights", "models/exported/model.pth", "picture.jpg", "--no-invert")
    assert (code, errors) == (0, "")


@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_every_file_of_weights_answers_alike(darkroom, trained, form):
    assert darkroom("export", "--format", form, "--output", f"out/digits.{form}")[0] == 0
    Image.new("L", (8, 8), 30).save(trained / "picture.png")
    code, output, _ = darkroom("predict", "--weights", f"out/digits.{form}", "picture.png", "--json")
    assert code == 0
    classifier, _ = model_files.load_classifier(trained / "models/model.safetensors", trained / "models/model.json")
    with torch.no_grad():
        expected = classifier(torch.full((1, 1, 8, 8), 30, dtype=torch.uint8)).softmax(1)[0]
    found = json.loads(output)["predictions"][0]["probabilities"]
    assert [found[str(digit)] for digit in range(10)] == pytest.approx(expected.tolist(), rel=1e-4)


def test_a_negative_is_told_of(darkroom, registered):
    Image.new("L", (9, 9), "white").save("picture.png")
    code, output, errors = darkroom("predict", "picture.png")
    assert code == 0
    assert "picture.png" in output
    assert "1 of 1 shown to the model as negatives, like the training images\n" in errors


@pytest.fixture
def exported(darkroom, trained):
    """A project with a file of weights; gives what asks it."""
    assert darkroom("export", "--format", "pth")[0] == 0
    return lambda *arguments: darkroom("predict", "--weights", "models/exported/model.pth", *arguments)


def shades(root, **folders):
    """Write gray pictures below ``root``: of each folder so many."""
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True)
        for row in range(count):
            Image.new("L", (8, 8), 3 * row).save(root / folder / f"{row}.png")


def test_a_directory_is_answered_in_a_file_and_its_counts_are_told(exported, tmp_path):
    shades(tmp_path / "test", **{"3": 13, "7": 12})
    code, output, errors = exported(str(tmp_path / "test"), "--output", "out/answers.csv")
    assert (code, errors) == (0, "out/answers.csv: 25 lines\n")
    assert "of 25 are the class that their folder is named as: accuracy" in output
    lines = Path("out/answers.csv").read_text().splitlines()
    assert lines[0].startswith("file,label,probability,p_0,p_1,")
    assert len(lines) == 26


def test_pictures_that_cannot_be_read_do_not_hinder_the_others(exported, tmp_path):
    shades(tmp_path / "mixed", a=3)
    for row in range(7):
        (tmp_path / "mixed" / f"broken{row}.jpg").write_text("no image")
    code, output, errors = exported(str(tmp_path / "mixed"), "--json")
    assert code == 0
    found = json.loads(output)["predictions"]
    assert len(found) == 10
    assert sum("error" in each for each in found) == 7
    assert "warning: 7 of 10 images have no answer: " in errors
    assert errors.count("cannot be decoded") == 5
    assert "and so on" in errors


def test_pictures_none_of_which_can_be_read_are_refused(exported, tmp_path):
    for row in range(2):
        (tmp_path / f"broken{row}.jpg").write_text("no image")
    refused(
        exported(str(tmp_path / "broken0.jpg"), str(tmp_path / "broken1.jpg"), "--output", "answers.csv"),
        r"none of 2 images can be read; the first is .*broken0\.jpg: cannot be decoded",
    )
    assert not Path("answers.csv").exists()


def test_an_unknown_form_of_output_is_refused_before_the_model_is_loaded(darkroom, project):
    root = project()
    shades(root, pictures=1)
    refused(
        darkroom("predict", "pictures", "--output", "answers.xls"), r"--output answers\.xls: no known form '\.xls'; "
    )


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--weights", "none.pth"], r"none\.pth: has no card beside it; name its architecture"),
        (["--weights", "none.pth", "--model", "mlp"], r"none\.pth: no such file"),
        (["--weights", "none.pth", "--model", "nlp"], r"--model: no architecture 'nlp'; did you mean 'mlp'"),
        (
            ["--weights", "models/exported/model.pth", "--model", "mlp"],
            r"weights of simple-cnn, as .* says, not of mlp",
        ),
        (["--weights", "params.yaml", "--model", "mlp"], r"params\.yaml: not a file of weights, or damaged"),
        (["--model", "mlp"], r"--model: names the architecture of --weights, which is not given"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(darkroom, trained, arguments, pattern):
    assert darkroom("export", "--format", "pth")[0] == 0
    Image.new("L", (9, 9)).save(trained / "picture.png")
    refused(darkroom("predict", "picture.png", *arguments), pattern)


def test_an_export_that_is_refused_says_so_in_one_line(darkroom, trained):
    refused(darkroom("export", "--format", "pth", "-o", "digits.json"), r"digits\.json: .* in the format pth ends in")
    refused(darkroom("export", "--format", "pth", "--quantize", "int8"), r"--quantize: of onnx only, not of pth")
    refused(darkroom("export", "--format", "pt2", "--model", "champion"), r"holds no versions of darkroom-digits")
    assert not list(trained.rglob("digits.*json"))
    assert not (trained / "models" / "exported").exists()


def test_export_needs_a_model(darkroom, project):
    root = project()
    refused(darkroom("export", "--format", "onnx"), r"model\.json: not found; run `darkroom train`")
    assert not (root / "models").exists()


# --- the learning rate -------------------------------------------------------------------------------------


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


def test_the_trials_of_the_latest_search_are_shown_in_three_forms(project, darkroom):
    project()
    make_study(Workspace().study_journal)

    code, table, _ = darkroom("trials")
    _, as_json, _ = darkroom("trials", "--json")
    _, as_csv, _ = darkroom("trials", "--csv")

    assert code == 0
    assert "complete, the best" in table
    assert json.loads(as_json)["trials"][0]["values"] == [0.75]
    assert as_csv.splitlines()[0] == "trial,state,value,epochs,seconds,train.lr,note"
    assert as_csv.splitlines()[1].startswith("0,complete,0.75,0,")


def make_study(path):
    path.parent.mkdir(parents=True)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    study = optuna.create_study(storage=storage, direction="maximize")
    study.set_user_attr(OPENED, "2026-01-01")
    study.ask({"train.lr": optuna.distributions.FloatDistribution(0, 1)})
    study.tell(0, 0.75)


def test_the_trials_are_shown_in_one_form_at_a_time(project, darkroom):
    project()
    make_study(Workspace().study_journal)

    refused(darkroom("trials", "--json", "--csv"), "--json and --csv are two forms of the same; give one of them")


def test_without_a_search_there_are_no_trials_to_show_and_none_are_made(project, darkroom):
    root = project()
    before = sorted(root.rglob("*"))

    refused(darkroom("trials"), r"study\.journal: no study yet; `darkroom search` makes one$")

    assert sorted(root.rglob("*")) == before
