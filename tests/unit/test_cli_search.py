"""The command line of a search: resuming, two objectives, its trials, and what it refuses."""

import json
import re

import optuna
import pytest
import torch
from mlflow import MlflowClient
from optuna.trial import TrialState
from tests.unit.refusals import refused

from darkroom.config import load
from darkroom.errors import SearchError
from darkroom.search.attributes import FAILURE, OPENED
from darkroom.search.storage import open_storage
from darkroom.training.precision import Precision
from darkroom.workspace import Workspace


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


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (3, r"train\.batch_size: 64 cannot be divided among 3 devices; the next that can is 66$"),
        (5, r"train\.devices: 5 are more than this machine has \(4 cores\); set it to 4 or less$"),
    ],
)
def test_what_the_training_would_refuse_is_refused_before_a_study_is_made(
    darkroom, searchable, monkeypatch, devices, message
):
    monkeypatch.setattr("darkroom.training.device.cores", lambda: [0, 1, 2, 3])
    root = searchable(train__devices=devices, train__device="cpu")
    refused(darkroom("search"), message)
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
        refused(darkroom("search"), r"the GPU failed \(CUDA error: unspecified launch failure\)")

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


def test_the_trials_of_the_latest_search_are_shown_in_three_forms(project, darkroom):
    project()
    make_study(Workspace().study_journal)

    code, table, _ = darkroom("trials")
    _, as_json, _ = darkroom("trials", "--json")
    _, as_csv, _ = darkroom("trials", "--csv")

    assert code == 0
    assert "complete, best single value" in table
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
