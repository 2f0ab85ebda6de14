"""A pipeline that is killed goes on as if it had not been."""

import json
import os
import shutil
import signal
from collections import Counter

import psutil
import pytest
from mlflow import MlflowClient
from optuna import load_study
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from tests.forkserver import context, start_command
from tests.stages import run_stages
from tests.wait import SECONDS, wait_until

EPOCHS = 8
# One trial at a time, so that one is lost; and a small network, for all is trained twice.
SETTINGS = {
    "search__trials": 5, "search__epochs": 3, "search__finalists": 1, "search__repeats": 2, "train__epochs": EPOCHS,
    "search__workers": 1, "search__fuse": "off", "model__filters": [8, 16], "model__hidden": [32],
}  # fmt: skip
# What lies before the stages that are killed.
PREPROCESSED = ("data/raw", "data/processed", "reports/preprocess")
# DVC takes that as it is.
REPRO = ("dvc", "repro", "--single-item", "train")


@pytest.fixture(scope="module")
def uninterrupted(make_clone, tmp_path_factory):
    clone = make_clone(tmp_path_factory.mktemp("uninterrupted"), **SETTINGS)
    run_stages(clone.root, "download", "preprocess", "search", "train")
    return clone.root


@pytest.fixture(scope="module")
def make_preprocessed(make_clone, uninterrupted, tmp_path_factory):
    """Make a clone whose images are preprocessed, with settings as given."""

    def make(**settings):
        clone = make_clone(tmp_path_factory.mktemp("preprocessed"), **settings)
        for name in PREPROCESSED:
            shutil.copytree(uninterrupted / name, clone.root / name, dirs_exist_ok=True)
        return clone

    return make


@pytest.fixture(scope="module")
def interrupted(make_preprocessed):
    """Killed in the middle of the search, then in the middle of the training, then run to its end."""
    clone = make_preprocessed(**SETTINGS)
    search = context().Process(target=run_stages, args=(clone.root, "search"))
    search.start()
    wait_until(lambda: in_fourth_trial(clone.root) or not search.is_alive(), "the search was to be killed")
    assert search.is_alive()
    search.kill()
    search.join()
    run_stages(clone.root, "search")
    kill_training(clone)
    clone.run(*REPRO)
    return clone.root


def kill_training(clone):
    """Start `dvc repro`, kill -9 the training after an epoch, and DVC with it."""
    process = clone.start(*REPRO)
    checkpoint = clone.root / "models" / "checkpoints" / "train.pt"
    wait_until(checkpoint.exists, "the training was to be killed", process)
    children = psutil.Process(process.pid).children(recursive=True)
    (victim,) = [child for child in children if child.cmdline()[-1:] == ["train"]]
    process.send_signal(signal.SIGSTOP)  # DVC must not see its stage end
    victim.kill()
    process.kill()
    process.wait(SECONDS)
    process.stdout.close()


def in_fourth_trial(root):
    return any(trial.number == 3 and trial.intermediate_values for trial in trials(root, TrialState.RUNNING))


def study(root):
    path = root / "models" / "checkpoints" / "study.journal"
    if not path.exists():
        return None
    storage = JournalStorage(JournalFileBackend(str(path)))
    found = storage.get_all_studies()
    return load_study(study_name=found[0].study_name, storage=storage) if found else None


def trials(root, *states):
    opened = study(root)
    return opened.get_trials(states=states or None) if opened else []


def test_the_weights_are_the_same_to_the_bit(uninterrupted, interrupted):
    weights = [(root / "models" / "model.safetensors").read_bytes() for root in (uninterrupted, interrupted)]
    assert weights[0] == weights[1]


def test_the_search_finds_the_same_in_the_same_trials(uninterrupted, interrupted):
    def counted(root):
        lost = study(root).user_attrs.get("interrupted", [])
        return [(t.params, t.value, t.state, t.intermediate_values) for t in trials(root) if t.number not in lost]

    assert len(study(interrupted).user_attrs["interrupted"]) == 1
    assert counted(interrupted) == counted(uninterrupted)
    assert trials(interrupted, TrialState.RUNNING, TrialState.WAITING) == []


def test_no_run_is_left_running_and_no_trial_is_lost(interrupted):
    client = MlflowClient(f"sqlite:///{interrupted / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("darkroom").experiment_id])
    kinds = Counter((run.data.tags["darkroom.kind"], run.info.status) for run in runs)
    evidence = json.loads((interrupted / "models" / "search" / "best_params.json").read_text())["evidence"]
    assert kinds == {
        ("search", "FINISHED"): 1,
        ("train", "FINISHED"): 1,
        ("trial", "KILLED"): 1,
        ("trial", "FINISHED"): 5,
        ("repeat", "FINISHED"): sum(candidate["n"] for candidate in evidence["candidates"]),
    }


def test_the_best_settings_and_their_evidence_are_the_same(uninterrupted, interrupted):
    def told(root):
        found = json.loads((root / "models" / "search" / "best_params.json").read_text())
        return found["params"], [(each["settings"], each["values"]) for each in found["evidence"]["candidates"]]

    assert told(interrupted) == told(uninterrupted)


def test_the_resumed_run_holds_each_epoch_once(interrupted):
    client = MlflowClient(f"sqlite:///{interrupted / 'mlflow.db'}")
    card = json.loads((interrupted / "models" / "model.json").read_text())
    experiment = client.get_experiment_by_name("darkroom").experiment_id
    (run,) = client.search_runs([experiment], f"tags.`darkroom.run` = '{card['run_id']}'")
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "val/loss")]
    assert sorted(steps) == list(range(1, EPOCHS + 1))


@pytest.fixture(scope="module")
def ready_to_train(make_preprocessed):
    clone = make_preprocessed(**SETTINGS | {"search__trials": 0})
    run_stages(clone.root, "search")
    return clone


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.long)])
def test_a_training_that_is_asked_to_stop_ends_its_run(ready_to_train, tmp_path, how):
    clone, said = ready_to_train, tmp_path / "said"
    checkpoint = clone.root / "models" / "checkpoints" / "train.pt"
    checkpoint.unlink(missing_ok=True)
    process = start_command(clone.root, said, "train")
    wait_until(lambda: checkpoint.exists() or not process.is_alive(), "the first checkpoint was written")
    os.kill(process.pid, how)
    process.join(SECONDS)
    assert process.exitcode == 128 + how
    assert "Traceback" not in said.read_text(encoding="utf-8")
    client = MlflowClient(f"sqlite:///{clone.root / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("darkroom").experiment_id])
    assert {run.info.status for run in runs} == {"KILLED"}
    assert not (clone.root / "models" / "model.safetensors").exists()
