"""Telling a store of runs without waiting for it: nothing is lost, nothing is there twice, nothing is hushed up."""

import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException
from tests.wait import SECONDS

from darkroom.config.settings import Tracking
from darkroom.errors import TrackingError, TrainingError
from darkroom.tracking import system_metrics, writer
from darkroom.tracking import tracker as tracking
from darkroom.tracking.store import Store
from darkroom.tracking.tracker import Tracker, connect
from darkroom.tracking.writer import merged
from darkroom.utils import signals
from darkroom.workspace import Workspace

REMOTE = "http://127.0.0.1:9"


@pytest.fixture
def spools(project):
    project()
    return Workspace().spools


@pytest.fixture
def open_tracker(spools):
    return lambda: Tracker(Tracking(), spools)


class Gate:
    """A remote store, in truth the project's own, that can be away, hang, or fail after it has done what was asked."""

    def __init__(self):
        self.problem = None
        self.problem_after = None
        self.asked = threading.Event()
        self.opened = threading.Event()
        self.opened.set()

    def pass_through(self, action, *arguments):
        self.asked.set()
        assert self.opened.wait(SECONDS)
        if self.problem:
            raise self.problem
        result = action(*arguments)
        if self.problem_after:
            raise self.problem_after
        return result


@pytest.fixture
def gate(spools, monkeypatch):
    local = tracking.tracking_uri()
    real_connect, real_apply = Store.connect, Store.apply
    gate = Gate()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", REMOTE)

    def connect_through(address, experiment):
        try:
            return gate.pass_through(real_connect, local, experiment)
        finally:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address)  # MLflow has set it to the true one

    monkeypatch.setattr(writer, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(writer, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(Store, "connect", connect_through)
    monkeypatch.setattr(Store, "apply", lambda *arguments: gate.pass_through(real_apply, *arguments))
    yield gate
    gate.opened.set()
    for thread in threading.enumerate():
        if thread.name == "tracking":
            thread.join(SECONDS)


def away():
    return MlflowException("API request to http://127.0.0.1:9 failed with exception: Max retries exceeded")


def tell(run, epochs=3):
    run.log_params({"train.lr": 0.1})
    for epoch in range(1, epochs + 1):
        run.log_metrics({"val/loss": 1 / epoch}, step=epoch)


def runs_of(store):
    return store.client.search_runs([store.experiment_id])


def assert_complete(store, run, epochs=3, status="FINISHED"):
    (found,) = runs_of(store)
    assert found.data.tags["darkroom.run"] == run.key
    assert found.info.status == status
    assert found.data.params == {"train.lr": "0.1"}
    history = store.client.get_metric_history(found.info.run_id, "val/loss")
    assert sorted(point.step for point in history) == list(range(1, epochs + 1))


def assert_one_warning(text, reason):
    assert text.count("warning:") == 1
    assert f"does not answer ({reason}); unsent data is kept in " in text
    assert "the next command that uses the store, such as `darkroom register`, sends it" in text


def test_what_a_run_was_told_is_in_the_store_when_the_stage_ends(open_tracker, spools):
    with open_tracker() as tracker, tracker.start("a run", "train") as run:
        tell(run)
    assert_complete(connect(Tracking(), spools), run)
    assert list(spools.iterdir()) == []


@pytest.mark.parametrize(
    ("problem", "status"),
    [(TrainingError("nan"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(1), "KILLED")],
)
def test_a_run_that_ends_early_says_how(open_tracker, spools, problem, status):
    tracker = open_tracker()
    run = tracker.start("a run", "train")
    tell(run)
    with pytest.raises(type(problem)), tracker, run:
        raise problem
    assert_complete(connect(Tracking(), spools), run, status=status)


@pytest.mark.parametrize("parent_is_known", [True, False])
def test_a_trial_finds_its_search(gate, open_tracker, spools, parent_is_known):
    gate.problem = None if parent_is_known else away()
    with open_tracker() as tracker, tracker.start("search", "search") as parent:
        tracker.start("trial 0", "trial", parent=parent.key)
    gate.problem = None
    store = connect(Tracking(), spools)
    parents = {run.info.run_name: run.data.tags.get("mlflow.parentRunId") for run in runs_of(store)}
    assert parents == {"search": None, "trial 0": store.id_of(parent.key)}


def test_git_is_asked_once_in_a_stage(gate, open_tracker, monkeypatch):
    asked = []
    monkeypatch.setattr("darkroom.tracking.runs.code_version", lambda: asked.append("git") or {})
    with open_tracker() as tracker, tracker.start("search", "search") as parent:
        for number in range(3):
            tracker.start(f"trial {number}", "trial", parent=parent.key)
    assert asked == ["git"]


# --- a store that does not answer ------------------------------------------------------------------------


class FailingHandler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(500)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *arguments):
        pass


@contextmanager
def refusing():
    yield 9


@contextmanager
def hanging():
    with socket.create_server(("127.0.0.1", 0)) as server:  # the system accepts, nobody reads
        yield server.getsockname()[1]


@contextmanager
def failing():
    with ThreadingHTTPServer(("127.0.0.1", 0), FailingHandler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(
    ("serve", "reason"),
    [(refusing, "no connection"), (hanging, "no answer"), (failing, "HTTP 500")],
)
def test_a_server_that_does_not_answer_is_warned_of_once_and_what_it_lacks_is_kept(
    open_tracker, spools, monkeypatch, capsys, serve, reason
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with serve() as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        with open_tracker() as tracker, tracker.start("a run", "train") as run:
            tell(run)
            tracker.if_it_answers(lambda store: pytest.fail("it does not answer"))
    text = capsys.readouterr().err
    assert text.count("warning:") == 1
    assert f"http://127.0.0.1:{port} does not answer ({reason})" in text
    (spool,) = spools.glob("*.jsonl")
    assert spool.read_text().count("val/loss") == 3


def test_nobody_waits_for_a_store_that_hangs(gate, open_tracker, spools, monkeypatch, capsys):
    gate.opened.clear()
    with monkeypatch.context() as patch:
        patch.setattr(tracking, "PATIENCE_SECONDS", 0.1)
        with open_tracker() as tracker, tracker.start("a run", "train") as run:
            assert gate.asked.wait(SECONDS)
            tell(run)
    assert not gate.opened.is_set()
    assert_one_warning(capsys.readouterr().err, "no answer")
    gate.opened.set()
    assert_complete(connect(Tracking(), spools), run)


def interrupt(tracker, run):
    tracker._writer.imported = threading.Event()  # MLflow takes its time
    tell(run)
    raise KeyboardInterrupt


def test_who_interrupts_waits_for_no_store_and_no_import(gate, open_tracker, spools, monkeypatch, capsys):
    gate.opened.clear()
    with monkeypatch.context() as patch:
        patch.setattr(tracking, "INTERRUPTED_PATIENCE_SECONDS", 0.01)
        patch.setattr(tracking, "PATIENCE_SECONDS", SECONDS)
        # A file on this machine, and its import, are otherwise waited for however long they take.
        patch.setattr(writer, "is_local", lambda address: True)
        with pytest.raises(KeyboardInterrupt), open_tracker() as tracker, tracker.start("a run", "train") as run:
            interrupt(tracker, run)
    text = capsys.readouterr().err
    assert "warning:" not in text
    assert "interrupted; what the MLflow store does not have yet is kept in " in text
    assert "(`dvc repro`) sends it" in text
    gate.opened.set()
    assert_complete(connect(Tracking(), spools), run, status="KILLED")


def test_ctrl_c_is_answered_from_the_first_run_to_the_end_of_the_stage(open_tracker):
    with open_tracker() as tracker:
        said = [signals._answer]
        with tracker.start("a run", "train"), tracker.start("another", "trial"):
            said.append(signals._answer)
    assert [*said, signals._answer] == ["", "ending the run", ""]


def test_a_store_that_is_back_is_brought_what_it_lacks_by_the_next_command(gate, open_tracker, spools, capsys):
    gate.problem = away()
    with open_tracker() as tracker, tracker.start("a run", "train") as run:
        tell(run)
    assert_one_warning(capsys.readouterr().err, "no connection")
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9 cannot be used \(no connection\); start the serv"):
        connect(Tracking(), spools)
    gate.problem = None
    assert_complete(connect(Tracking(), spools), run)
    assert list(spools.iterdir()) == []


def test_a_store_that_goes_away_and_comes_back_meanwhile_lacks_nothing(gate, open_tracker, spools, capsys):
    with open_tracker() as tracker, tracker.start("a run", "train") as run:
        tell(run, epochs=1)
        tracker.if_it_answers(lambda store: None)
        gate.problem = away()
        gate.asked.clear()
        tell(run, epochs=2)
        assert gate.asked.wait(SECONDS)
        gate.problem = None
        tell(run, epochs=3)
    assert capsys.readouterr().err == ""
    assert_complete(connect(Tracking(), spools), run)


def test_a_store_that_goes_away_for_good_in_the_middle_is_brought_the_rest_later(gate, open_tracker, spools, capsys):
    with open_tracker() as tracker, tracker.start("a run", "train") as run:
        tell(run, epochs=1)
        tracker.if_it_answers(lambda store: None)
        gate.problem = away()
        tell(run, epochs=3)
    assert_one_warning(capsys.readouterr().err, "no connection")
    gate.problem = None
    assert_complete(connect(Tracking(), spools), run)


def test_a_run_is_made_once_when_the_answer_that_it_was_made_is_lost(gate, open_tracker, spools):
    with open_tracker() as tracker:
        tracker.if_it_answers(lambda store: None)
        gate.problem_after = away()
        with tracker.start("a run", "train") as run:
            tell(run)
    gate.problem_after = None
    assert_complete(connect(Tracking(), spools), run)


def test_a_killed_training_is_brought_to_the_store_and_gone_on_with(gate, open_tracker, spools):
    gate.problem = away()
    killed = open_tracker()
    run = killed.start("a run", "train")
    tell(run, epochs=2)
    killed._writer.close(keep=True)  # as the end of its process does
    gate.problem = None
    with open_tracker() as tracker, tracker.start("a run", "train", key=run.key) as resumed:
        tell(resumed, epochs=3)
    assert_complete(connect(Tracking(), spools), run)


def test_a_model_that_could_not_be_logged_is_warned_of(gate, open_tracker, capsys):
    def log_model(store):
        raise away()

    with open_tracker() as tracker, tracker.start("a run", "train"):
        tracker.if_it_answers(log_model)
    assert_one_warning(capsys.readouterr().err, "no connection")


# --- a store that refuses --------------------------------------------------------------------------------


def test_a_deleted_experiment_ends_the_stage_at_the_next_thing_told(gate, open_tracker, spools):
    store = connect(Tracking(), spools)
    store.client.delete_experiment(store.experiment_id)
    tracker = open_tracker()
    tracker._writer.wait(SECONDS)
    with pytest.raises(TrackingError, match="is deleted; "):
        tracker.start("a run", "train")


def test_a_deleted_experiment_of_a_file_is_refused_before_any_work(open_tracker, spools):
    store = connect(Tracking(), spools)
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(TrackingError, match="is deleted; "):
        open_tracker()


def test_what_a_store_refused_stays_in_the_spool_and_is_brought_when_it_takes_it(gate, open_tracker, spools):
    store = connect(Tracking(), spools)
    store.client.delete_experiment(store.experiment_id)
    gate.opened.clear()
    tracker = open_tracker()
    with tracker.start("a run", "train") as run:
        tell(run)
    gate.opened.set()
    with pytest.raises(TrackingError, match="is deleted; "), tracker:
        pass
    store.client.restore_experiment(store.experiment_id)
    assert_complete(connect(Tracking(), spools), run)


def test_a_mistake_in_the_thread_is_raised_in_the_stage(gate, open_tracker):
    gate.problem = ZeroDivisionError("ours")
    with pytest.raises(ZeroDivisionError, match="ours"), open_tracker() as tracker:
        tracker.start("a run", "train")


def test_a_refusal_in_the_middle_does_not_end_the_stage_and_is_told(gate, open_tracker, capsys):
    with open_tracker() as tracker, tracker.start("a run", "train") as run:
        tracker.if_it_answers(lambda store: None)
        gate.problem = MlflowException("no such run", error_code=1001)
        tell(run)
    assert_one_warning(capsys.readouterr().err, "no such run")


def test_a_spool_that_the_store_refuses_is_set_aside_and_what_follows_is_sent(gate, open_tracker, spools, capsys):
    gate.problem = away()
    for _ in range(2):
        with open_tracker() as tracker, tracker.start("a run", "train") as run:
            tell(run)
    first = min(spools.glob("*.jsonl"))
    first.write_text(first.read_text().replace('"do": "params"', '"do": "params of another release"'))
    capsys.readouterr()
    gate.problem = None
    store = connect(Tracking(), spools)
    assert "rejects the data kept for it (not an operation" in capsys.readouterr().err
    assert [path.suffix for path in spools.iterdir() if path.is_file() and path.suffix != ".sent"] == [".refused"]
    (found,) = [each for each in runs_of(store) if each.data.tags["darkroom.run"] == run.key]
    assert found.info.status == "FINISHED"


def test_a_spool_of_another_store_stays(gate, open_tracker, spools, monkeypatch):
    gate.problem = away()
    with open_tracker() as tracker, tracker.start("a run", "train"):
        pass
    gate.problem = None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:10")
    assert runs_of(connect(Tracking(), spools)) == []
    assert len(list(spools.glob("*.jsonl"))) == 1


# --- what it costs ---------------------------------------------------------------------------------------


def test_the_costs_are_the_waiting_of_the_stage_and_the_work_of_the_thread(gate, open_tracker):
    with open_tracker() as tracker:
        tracker.finish_import()
        gate.opened.clear()
        idle = tracker.seconds
        run = tracker.start("a run", "train")
        told = tracker.seconds
        assert told > idle
        gate.opened.set()
        tell(run)
        tracker.if_it_answers(lambda store: None)
        assert tracker.seconds > told


def test_the_use_of_the_machine_is_in_the_store_and_grows_when_the_run_is_resumed(open_tracker, spools, monkeypatch):
    monkeypatch.setattr(system_metrics, "LEAST_SECONDS", 0.0)
    key = None
    for now in (1_000.0, 2_000.0):
        clock = SimpleNamespace(
            time_ns=lambda now=now: int(now * 1e9), monotonic=time.monotonic, thread_time=time.thread_time
        )
        monkeypatch.setattr(system_metrics, "time", clock)
        with open_tracker() as tracker, tracker.start("a run", "train", key=key) as run, tracker.monitored(run):
            key = run.key
        assert tracker.seconds > 0
    store = connect(Tracking(), spools)
    (found,) = runs_of(store)
    history = store.client.get_metric_history(found.info.run_id, "system/system_memory_usage_percentage")
    assert [(point.step, point.timestamp) for point in history] == [(1_000, 1_000_000), (2_000, 2_000_000)]


def test_figures_of_one_run_that_follow_each_other_are_sent_together():
    def point(run, step):
        return {"do": "metrics", "run": run, "points": [["a", 0.5, 0, step]]}

    tags = {"do": "tags", "run": "1", "tags": {}}
    pending = [(point("1", 1), 10), (point("1", 2), 20), (tags, 30), (point("1", 3), 40), (point("2", 1), 50)]
    points = [["a", 0.5, 0, 1], ["a", 0.5, 0, 2]]
    together = {"do": "metrics", "run": "1", "points": points}
    assert merged(pending) == [(together, 20), *pending[2:]]


def test_a_short_stage_is_told_of_when_it_has_ended(open_tracker, gate, monkeypatch):
    monkeypatch.setattr(writer, "QUIET_SECONDS", 3600.0)
    with open_tracker() as tracker:
        run = tracker.start("short", "train")
        run.log_metrics({"val/loss": 0.5}, step=1)
        assert not tracker._writer.imported.is_set()
        assert not gate.asked.is_set()

    assert gate.asked.is_set()
    assert not list(tracker._writer.directory.glob("*.jsonl"))


def test_a_stage_that_tells_nothing_ends_without_importing(open_tracker, gate, monkeypatch):
    monkeypatch.setattr(writer, "QUIET_SECONDS", 3600.0)
    with open_tracker() as tracker:
        pass
    tracker._writer._thread.join(SECONDS)

    assert not gate.asked.is_set()
    assert not tracker._writer._thread.is_alive()
