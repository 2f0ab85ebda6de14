"""Runs that are written as a whole: as if they had been told one operation after another."""

from functools import partial

import pytest

from darkroom.config.settings import Tracking
from darkroom.tracking import store as store_module
from darkroom.tracking.runs import begin
from darkroom.tracking.tracker import connect
from darkroom.tracking.whole_runs import MAX_TEXT, whole_runs
from darkroom.workspace import Workspace


@pytest.fixture
def store(project):
    project()
    return connect(Tracking(), Workspace().spools)


def tell(send, name, parent, state="complete", loss=0.5):
    """What a search tells of a trial of two epochs."""
    run = begin(send, name, "trial", {"mlflow.user": "someone", "darkroom.process": "there:1:2"}, parent=parent)
    run.log_params({"train.lr": 0.01, "model.hidden": [32]})
    run.log_params({"train.lr": 0.02})
    run.log_tags({"trial.number": 3})
    run.log_metrics({"val/loss": 0.7, "val/accuracy": 0.5}, step=1)
    run.log_metrics({"val/loss": loss, "val/accuracy": 0.6}, step=2)
    with run:
        run.log_tags({"trial.state": state})
        run.rename(f"{name}, {state}")
    return run


def told(parent, *names, **others):
    operations = []
    for name in names:
        tell(operations.append, name, parent, **others)
    return operations


def all_of(store, key):
    """Whatever MLflow shows of a run that does not depend on the time, the run's name or its place."""
    run = store.client.get_run(store.id_of(key))
    tags = {name: value for name, value in run.data.tags.items() if name != "darkroom.run"}
    info = {name: value for name, value in dict(run.info).items() if name not in ("run_id", "run_uuid", "artifact_uri")}
    times = {name: info.pop(name) for name in ("start_time", "end_time")}
    curves = {
        name: [(each.step, each.value) for each in store.client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    assert all(times.values())
    assert run.info.artifact_uri.replace(run.info.run_id, "") == f"{artifacts(store)}//artifacts"
    return [sorted(each.items()) for each in (info, run.data.params, run.data.metrics, tags, curves)]


def noted(calls, name, function, *given):
    calls.append(name)
    return function(*given)


def artifacts(store):
    return store.client.get_experiment(store.experiment_id).artifact_location


@pytest.mark.parametrize("loss", [0.5, float("nan"), float("inf")])
def test_a_run_that_is_written_as_a_whole_is_as_one_that_was_told(store, loss):
    with store.start("search", "search") as parent:
        one = tell(store.apply, "trial 3", parent.key, loss=loss)
        store.add(whole_runs(told(parent.key, "trial 3", loss=loss)))
    runs = store.client.search_runs([store.experiment_id], "tags.`trial.number` = '3'")
    keys = [run.data.tags["darkroom.run"] for run in runs]
    (whole,) = set(keys) - {one.key}
    assert repr(all_of(store, whole)) == repr(all_of(store, one.key))
    assert store.client.get_run(store.id_of(whole)).data.params == {"train.lr": "0.01", "model.hidden": "[32]"}


def test_another_store_than_a_database_is_given_the_same_in_three_calls(store, monkeypatch):
    monkeypatch.setattr(store_module, "database_of", lambda client: None)
    monkeypatch.setattr("darkroom.tracking.whole_runs.database_of", lambda client: None)
    with store.start("search", "search") as parent:
        one = tell(store.apply, "trial 3", parent.key)
        runs = whole_runs(told(parent.key, "trial 3"))
        calls = []
        for name in ("create_run", "log_batch", "set_terminated", "update_run", "set_tag", "log_param"):
            function = getattr(store.client, name)
            monkeypatch.setattr(store.client, name, partial(noted, calls, name, function))
        store.add(runs)
        assert calls == ["create_run", "log_batch", "set_terminated"]
        monkeypatch.undo()
        assert all_of(store, runs[0].key) == all_of(store, one.key)


def test_what_is_sent_twice_is_there_once(store):
    with store.start("search", "search") as parent:
        operations = told(parent.key, "trial 3", "trial 4")
        for operation in operations[:4]:  # before it was known to be whole
            store.apply(operation)
        for _ in range(2):
            store.add(whole_runs(operations))
        keys = list(dict.fromkeys(operation["run"] for operation in operations))
        found = [all_of(store, key) for key in keys]
    assert len(store.client.search_runs([store.experiment_id])) == 3
    assert [dict(each[4])["val/loss"] for each in found] == 2 * [[(1, 0.7), (2, 0.5)]]
    assert [dict(each[0])["status"] for each in found] == 2 * ["FINISHED"]


def test_a_run_is_whole_if_all_of_it_is_there_and_simple():
    (run,) = whole_runs(told("the parent", "trial 3", state="pruned"))
    assert (run.name, run.parent, run.status) == ("trial 3, pruned", "the parent", "FINISHED")
    assert run.tags["trial.state"] == "pruned"
    operations = told("the parent", "trial 3")
    files = {"do": "files", "run": operations[0]["run"], "directory": "somewhere", "name": "files"}
    assert not whole_runs(operations[:-1])
    assert not whole_runs(operations[1:])
    assert not whole_runs(told(None, "trial 3"))
    assert not whole_runs([*operations[:-1], files, operations[-1]])
    assert not whole_runs(told("the parent", "trial 3" + MAX_TEXT * "."))


def test_a_run_is_not_written_before_the_run_above_it():
    early, late = [], []
    first = begin(early.append, "first search", "search", {})
    second = begin(late.append, "second search", "search", {})
    operations = [*early, *told(first.key, "trial 0"), *late, *told(second.key, "trial 1"), *told(first.key, "trial 2")]
    assert [run.name for run in whole_runs(operations)] == ["trial 0, complete", "trial 2, complete"]
