"""Many workers and short trials, on what lies in files by default: nothing fails, and no row is lost."""

import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState
from tests.forkserver import fork_workers

from darkroom.config.settings import Tracking
from darkroom.search.executors import open_slots
from darkroom.search.heartbeat import OWNER
from darkroom.search.scheduler import TrialScheduler
from darkroom.search.trials import StudyTrials
from darkroom.tracking.tracker import Tracker
from darkroom.tracking.trials import TrialRuns
from darkroom.workspace import Workspace


class Logging:
    """Logs each trial as a child run, as the stage does."""

    def __init__(self, runs):
        self.runs = runs

    def trial_started(self, trial, settings):
        self.runs.begin(str(trial.number), "trial", settings, {"trial.number": trial.number})

    def epoch_ended(self, trial, metrics):
        self.runs.log_epoch(str(trial.number), {"val/loss": metrics.val_loss}, metrics.epoch)

    def trial_ended(self, trial):
        self.runs.end(str(trial.number), trial.state.name.lower())


def test_short_trials_on_many_workers_lose_no_row(make_config, small_cache, study_of, project, monkeypatch, long):
    fork_workers(monkeypatch)
    workers, trials = (8, 400) if long else (4, 40)
    root = project()
    config = make_config(trials, 1, sampler="random")
    study = study_of(config)

    with (
        Tracker(Tracking(), Workspace().spools) as tracker,
        tracker.start("search", "search") as parent,
        TrialRuns(tracker, parent) as runs,
        open_slots(config, small_cache, workers, 1) as slots,
    ):
        TrialScheduler(StudyTrials(study, config), config, slots, Logging(runs), 1).run()

    assert [trial.number for trial in study.trials] == list(range(trials))
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert all(trial.intermediate_values == {1: trial.value} and OWNER in trial.user_attrs for trial in study.trials)
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    (experiment,) = [each for each in client.search_experiments() if each.name == Tracking().experiment]
    found = client.search_runs([experiment.experiment_id], "tags.darkroom.kind = 'trial'", max_results=1000)
    assert {run.info.status for run in found} == {"FINISHED"}
    assert sorted(int(run.data.tags["trial.number"]) for run in found) == list(range(trials))
    for run in found:
        trial = study.trials[int(run.data.tags["trial.number"])]
        assert float(run.data.params["train.lr"]) == pytest.approx(trial.params["train.lr"])
        assert "val/loss" in run.data.metrics
