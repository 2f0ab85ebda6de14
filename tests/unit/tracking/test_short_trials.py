"""Trials that end soon are told to the store as a whole, and none of them is lost by waiting for its end."""

import pytest
from mlflow.exceptions import MlflowException
from tests.wait import wait_until

from darkroom.config.settings import Tracking
from darkroom.tracking import writer
from darkroom.tracking.store import Store
from darkroom.tracking.tracker import Tracker, connect
from darkroom.tracking.trials import TrialRuns
from darkroom.tracking.writer import unfinished
from darkroom.workspace import Workspace

EPOCHS = (1, 2)


@pytest.fixture
def spools(project, monkeypatch):
    project()
    monkeypatch.setattr(writer, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(writer, "GATHER_SECONDS", 0.01)
    monkeypatch.setattr(writer, "FIRST_PAUSE_SECONDS", 0.01)
    return Workspace().spools


@pytest.fixture
def told(monkeypatch):
    """What the store is told: the name of each operation, and how many runs it is given as a whole."""
    found = []
    apply, add = Store.apply, Store.add

    def noted_apply(store, operation):
        found.append(operation["do"])
        apply(store, operation)

    def noted_add(store, runs):
        found.append(len(runs))
        add(store, runs)

    monkeypatch.setattr(Store, "apply", noted_apply)
    monkeypatch.setattr(Store, "add", noted_add)
    return found


def begin(runs, name):
    runs.begin(name, "trial", {"train.lr": 0.1}, {"trial.number": 0})
    for epoch in EPOCHS:
        runs.log_epoch(name, {"val/loss": 1 / epoch}, epoch)


def trials_of(store):
    """The state of each trial and the steps of its curve, by its name."""
    found = {}
    for run in store.client.search_runs([store.experiment_id], "tags.`darkroom.kind` = 'trial'"):
        curve = store.client.get_metric_history(run.info.run_id, "val/loss")
        found[run.info.run_name] = (run.info.status, sorted(point.step for point in curve))
    return found


def test_trials_that_have_ended_are_told_together_and_one_that_runs_not_yet(spools, told):
    with Tracker(Tracking(), spools) as tracker, tracker.start("search", "search") as parent:
        with TrialRuns(tracker, parent) as runs:
            for name in ("trial 0", "trial 1", "trial 2"):
                begin(runs, name)
            runs.end("trial 0", "complete")
            runs.fail("trial 2", "the loss is nan")
            wait_until(lambda: sum(each for each in told if isinstance(each, int)) == 2, "two trials are there")
            assert trials_of(connect(Tracking(), spools)).keys() == {"trial 0", "trial 2"}
            runs.end("trial 1", "pruned", "trial 1, pruned")
        tracker.if_it_answers(lambda store: None)
        store = tracker.store()
    steps = list(EPOCHS)
    assert trials_of(store) == {
        "trial 0": ("FINISHED", steps), "trial 1, pruned": ("FINISHED", steps), "trial 2": ("FAILED", steps),
    }  # fmt: skip
    assert told.count("begin") == 1
    assert list(spools.iterdir()) == []


def test_a_trial_that_goes_on_is_told_as_it_goes(spools, told, monkeypatch):
    monkeypatch.setattr(writer, "WHOLE_SECONDS", 0.0)
    with Tracker(Tracking(), spools) as tracker, tracker.start("search", "search") as parent:
        with TrialRuns(tracker, parent) as runs:
            begin(runs, "trial 0")
            wait_until(lambda: "metrics" in told, "the trial is told of")
            assert told.count("begin") == 2
            runs.end("trial 0", "complete")
        store = tracker.store()
    assert trials_of(store) == {"trial 0": ("FINISHED", list(EPOCHS))}


def test_a_trial_whose_search_was_killed_is_brought_to_the_store_by_the_next_command(spools, told):
    tracker = Tracker(Tracking(), spools)
    parent = tracker.start("search", "search")
    runs = TrialRuns(tracker, parent)
    for name in ("trial 0", "trial 1", "trial 2"):
        begin(runs, name)
    runs.end("trial 1", "complete")
    wait_until(lambda: 1 in told, "the trial that has ended is there")
    wait_until(lambda: tracker._writer._held, "the others wait")
    tracker._writer.close(keep=True)  # as the end of its process does
    store = connect(Tracking(), spools)
    steps = list(EPOCHS)
    assert trials_of(store) == {
        "trial 0": ("RUNNING", steps), "trial 1": ("FINISHED", steps), "trial 2": ("RUNNING", steps),
    }  # fmt: skip


def test_trials_that_a_store_could_not_take_are_there_once_when_it_can(spools, told, monkeypatch):
    add, failures = Store.add, [MlflowException("away"), MlflowException("away")]

    def failing_add(store, runs):
        if failures:
            add(store, runs[:1])  # it may fail midway
            raise failures.pop()
        add(store, runs)

    monkeypatch.setattr(Store, "add", failing_add)
    monkeypatch.setattr("darkroom.tracking.store.is_locked", lambda problem: True)
    with Tracker(Tracking(), spools) as tracker, tracker.start("search", "search") as parent:
        with TrialRuns(tracker, parent) as runs:
            for name in ("trial 0", "trial 1"):
                begin(runs, name)
                runs.end(name, "complete")
            wait_until(lambda: not failures, "the store has failed")
        wait_until(lambda: not tracker._writer.trouble, "the store answers")
        store = tracker.store()
    assert len(store.client.search_runs([store.experiment_id])) == 3
    assert trials_of(store) == {f"trial {number}": ("FINISHED", list(EPOCHS)) for number in (0, 1)}


def test_only_young_runs_below_another_wait_for_their_end():
    def beginning(run, parent, seconds):
        return {"do": "begin", "run": run, "parent": parent, "time": 1000 * seconds}, 0

    pending = [beginning("search", None, 20), beginning("old", "search", 9), beginning("young", "search", 11)]
    ended = [beginning("over", "search", 12), ({"do": "end", "run": "over"}, 0)]
    assert unfinished([*pending, *ended], 10) == {"young"}
