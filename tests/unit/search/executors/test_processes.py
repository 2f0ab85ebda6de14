"""Workers in processes of their own: each has its share, none outlives the search, and one that dies costs nothing."""

import os
import signal
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from darkroom.errors import CacheError, SearchError
from darkroom.search.executors import InlineSlot, open_slots
from darkroom.search.executors.processes import ProcessSlot, Resources, divide
from darkroom.search.scheduler import TrialScheduler
from darkroom.search.study import used_trials
from darkroom.search.trials import StudyTrials
from darkroom.search.worker import TrialAssignment, WorkerCommand, WorkerResult

BEGIN = WorkerCommand((TrialAssignment(0, {}),))


class Silent:
    """Is told of a search, and says nothing."""

    def trial_started(self, trial, settings):
        pass

    def epoch_ended(self, trial, metrics):
        pass

    def trial_ended(self, trial):
        pass


@given(st.integers(1, 64), st.integers(0, 4), st.integers(1, 80))
def test_the_workers_share_all_cores_evenly(count, gpu_count, workers):
    cores, gpus = [3 * number + 1 for number in range(count)], [str(number) for number in range(gpu_count)]

    shares = divide(cores, gpus, workers)

    sizes = [len(share.cores) for share in shares]
    assert len(shares) == workers
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1
    assert {core for share in shares for core in share.cores} == set(cores)
    if workers <= count:
        assert sum(sizes) == count
    else:
        held = [share.cores[0] for share in shares]
        assert max(held.count(core) for core in cores) - min(held.count(core) for core in cores) <= 1
    given_out = [share.gpu for share in shares]
    assert given_out == ([str(worker % gpu_count) for worker in range(workers)] if gpus else [None] * workers)


@pytest.fixture(scope="module")
def slot(make_config, small_cache):
    """A worker that was given the last core of this process and another GPU than it sees."""
    opened = ProcessSlot(make_config(), small_cache, 1, Resources((max(os.sched_getaffinity(0)),), "7"))
    yield opened
    opened.close()


def in_worker(slot, function, *arguments):
    return slot._pool.submit(function, *arguments).result()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processes cannot be bound to cores here")
def test_a_worker_has_its_share_alone_and_the_same_answer(slot, make_config, small_cache):
    inline = InlineSlot(make_config(), small_cache)
    report, alone = slot.submit(BEGIN).result(), inline.submit(BEGIN).result()

    assert in_worker(slot, os.sched_getaffinity, 0) == {max(os.sched_getaffinity(0))}
    assert in_worker(slot, torch.get_num_threads) == 1
    assert in_worker(slot, os.getenv, "CUDA_VISIBLE_DEVICES") == "7"
    assert in_worker(slot, signal.pthread_sigmask, signal.SIG_BLOCK, ()) >= {signal.SIGINT}
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert report.progress[0].metrics.val_loss == pytest.approx(alone.progress[0].metrics.val_loss)
    assert report.progress[0].metrics.epoch == 1


def test_a_worker_that_dies_is_lost_and_another_takes_its_place(slot):
    slot.submit(WorkerCommand()).result()
    for child in psutil.Process().children():
        if child.pid in slot._pool._processes:
            child.kill()
    found_out, known = slot.submit(WorkerCommand()).exception(), slot.submit(WorkerCommand()).exception()

    assert isinstance(found_out, slot.lost)
    assert isinstance(known, slot.lost)

    slot.restart()
    assert slot.submit(BEGIN).result().progress[0].metrics.epoch == 1


def test_what_is_wrong_with_the_cache_is_said_as_it_is(make_config, tmp_path):
    with (
        open_slots(make_config(), tmp_path / "none", 2, 1) as slots,
        pytest.raises(CacheError, match=r"none/dataset\.json: not found; run `darkroom preprocess` first$"),
    ):
        slots[1].submit(BEGIN).result()


def test_one_worker_is_this_process(make_config, small_cache):
    with open_slots(make_config(), small_cache, 1, 3) as slots:
        assert [type(slot) for slot in slots] == [InlineSlot]
        assert slots[0].capacity == 3


class Doomed:
    """A slot whose workers all die, but for those of the given rounds."""

    capacity = 2
    lost = (BrokenProcessPool,)

    def __init__(self, survived=()):
        self.survived = survived
        self.rounds = 0

    def submit(self, command):
        self.rounds += 1
        future = Future()
        if self.rounds in self.survived:
            future.set_result(WorkerResult(failures={each.number: "no good" for each in command.begin}))
        else:
            future.set_exception(BrokenProcessPool("out of the blue"))
        return future

    def restart(self):
        pass


def test_workers_that_die_again_and_again_end_the_search(make_config, study_of):
    config = make_config()
    study, slot = study_of(config), Doomed()

    with pytest.raises(SearchError, match=r"^a worker died 3 times .* \(out of the blue\); .*search\.workers"):
        TrialScheduler(StudyTrials(study, config), config, [slot], Silent(), 2).run()

    assert slot.rounds == 3
    assert used_trials(study) == []


def test_workers_that_die_now_and_then_do_not_end_the_search(make_config, study_of):
    config = make_config()
    study, slot = study_of(config), Doomed(survived=(3, 6, 7))

    TrialScheduler(StudyTrials(study, config), config, [slot], Silent(), 2).run()

    assert slot.rounds == 7
    assert len(used_trials(study)) == config.search.trials


def test_a_search_whose_worker_is_killed_tries_its_trial_again_and_loses_none(scene):
    found = scene(trials=6, deaths=1).result()

    assert (found["states"], found["epochs"], found["running"]) == (["COMPLETE"] * 6, [2] * 6, 0)
    ((state, params),) = found["interrupted"]
    assert state == "FAIL"
    assert params in found["params"]
    assert found["imported"] == []


def test_no_worker_survives_a_search_that_is_killed(scene, all_end):
    running = scene(epochs=10_000)
    family = running.wait_until_it_trains()
    running.process.kill()

    assert len(family) >= 2
    assert all_end(family)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_search_that_is_interrupted_at_the_terminal_ends_with_its_workers(scene, all_end, number):
    running = scene(epochs=10_000)
    family = running.wait_until_it_trains()
    os.killpg(running.process.pid, number)
    _, complaints = running.process.communicate()

    assert len(family) >= 2
    assert all_end(family)
    assert complaints.count("Traceback") == (number == signal.SIGINT)
    assert ("KeyboardInterrupt" in complaints) == (number == signal.SIGINT)
    assert running.process.returncode in (-signal.SIGINT, 128 + number)
