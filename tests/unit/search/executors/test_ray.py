"""Workers in a Ray cluster: a real one of several processes, started for the test, and clusters that are not there.

Ray runs in processes of its own, as it leaves threads, sockets and warnings behind in the one that uses it.
"""

import contextlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from darkroom.errors import CacheError, ConfigError, SearchError
from darkroom.search.executors import open_slots
from darkroom.search.executors.ray_cluster import Cluster, WorkerActor
from darkroom.search.worker import WorkerCommand
from darkroom.utils.ray_cluster import ENVIRONMENT, LOOPBACK


def command_of(process):
    """How it was started, or, if Ray has named it, its name; nothing if it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def places_of(family):
    """Where the processes of a cluster leave their files."""
    return {Path(place) for process in family for place in re.findall(r"/tmp/ray\w+", command_of(process))}


def test_a_search_in_a_cluster_of_its_own_survives_the_death_of_a_worker_and_leaves_nothing_behind(scene, all_end):
    running = scene(executor="ray", trials=6, deaths=1, epochs=20)
    family = running.wait_until_it_trains()
    places = places_of(family)
    found = running.result()

    assert (found["states"], found["epochs"], found["running"]) == (["COMPLETE"] * 6, [20] * 6, 0)
    ((state, params),) = found["interrupted"]
    assert state == "FAIL"
    assert params in found["params"]
    assert (found["imported"], found["complaints"]) == (["ray"], "")
    assert all_end(family)
    assert places
    assert not [place for place in places if place.exists()]


def test_no_worker_of_a_cluster_of_its_own_survives_a_search_that_is_killed(scene, all_end):
    running = scene(executor="ray", epochs=10_000)
    family = running.wait_until_it_trains()
    places = places_of(family)
    trainers = [process for process in family if command_of(process).startswith("ray::WorkerActor")]
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in family
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    running.process.kill()
    # Ray's agents, which train nothing, would see it a minute later.
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # it was quicker
            if "Agent" in command_of(process):
                process.kill()
    ended = all_end(family)
    for place in places:
        shutil.rmtree(place)

    assert ended
    assert len(trainers) == 2
    assert listening == {"127.0.0.1"}


NODES = Path(__file__).with_name("nodes.py")


class FakeRay:
    """A cluster of nodes with the given resources, whose actors start at once but for those that are ``late``."""

    exceptions = SimpleNamespace(RayActorError=ConnectionError)

    def __init__(self, *resources, late=0):
        self.resources = list(resources)
        self.killed = []
        self.late = late

    def nodes(self):
        return [{"Alive": node is not None, "Resources": node or {}} for node in self.resources]

    def remote(self, **needs):
        start = SimpleNamespace(remote=object)
        return lambda trainer: SimpleNamespace(remote=lambda *given, **named: SimpleNamespace(start=start))

    def wait(self, starts, num_returns, timeout):
        assert num_returns == len(starts)
        assert timeout > 0
        return starts[self.late :], starts[: self.late]

    def kill(self, actor):
        self.killed.append(actor)


@pytest.fixture
def open_cluster(make_config, tmp_path):
    def opened(ray, count, **search):
        cluster = Cluster(ray, make_config(ray_address="host:1", **{"workers": count} | search), tmp_path, 2)
        cluster.open(count)
        return cluster

    return opened


CPUS = {"CPU": 2.0, "memory": 1e9}
GPUS = {"CPU": 16.0, "GPU": 2.0}
NO_ROOM = "search.ray_address: the cluster at host:1 has no room for a worker"


@pytest.mark.parametrize(
    ("nodes", "search", "slots"),
    [
        ([CPUS, CPUS], {}, 4),
        ([CPUS, None], {}, 2),
        ([GPUS] * 9, {}, 8),
        ([CPUS, GPUS], {"worker_cpus": 3}, 5),
        ([CPUS, GPUS, GPUS], {"worker_gpus": 1}, 4),
        ([CPUS, GPUS], {"worker_gpus": 0.5}, 4),
        ([CPUS, GPUS], {"worker_gpus": 0.5, "worker_cpus": 8}, 2),
    ],
)
def test_a_cluster_takes_as_many_of_eight_workers_as_its_nodes_hold(open_cluster, capsys, nodes, search, slots):
    cluster = open_cluster(FakeRay(*nodes), 8, **search)

    assert [slot.capacity for slot in cluster.slots] == [2] * slots
    said = f"has room for {slots} of 8 workers, which needs" in capsys.readouterr().err
    assert said == (slots < 8)


def test_workers_that_nobody_counted_are_as_many_as_there_is_room_for(open_cluster, capsys):
    assert len(open_cluster(FakeRay(CPUS), 8, workers="auto").slots) == 2
    assert capsys.readouterr().err == ""


def test_a_cluster_that_others_use_takes_the_workers_for_which_it_finds_room(open_cluster):
    ray = FakeRay(CPUS, late=1)

    assert len(open_cluster(ray, 2).slots) == 1
    assert len(ray.killed) == 1


@pytest.mark.parametrize("ray", [FakeRay(), FakeRay(CPUS), FakeRay(GPUS, late=2)])
def test_a_cluster_without_room_for_a_worker_is_refused(open_cluster, ray):
    with pytest.raises(
        SearchError, match=rf"^{NO_ROOM}, which needs 4 CPUs and 1 GPUs .* see search\.worker_cpus and "
    ):
        open_cluster(ray, 2, worker_cpus=4, worker_gpus=1)


def test_a_worker_whose_node_is_gone_leaves_its_slot_and_the_last_one_ends_the_search(open_cluster):
    ray = FakeRay(CPUS, CPUS)
    first, second, third, fourth = open_cluster(ray, 4).slots

    fourth.restart()
    assert fourth.capacity == 2

    ray.resources[1] = None
    third.restart()
    second.restart()
    first.restart()
    assert [slot.capacity for slot in (first, second, third, fourth)] == [2, 0, 0, 2]

    ray.resources[0] = None
    first.restart()
    with pytest.raises(SearchError, match=rf"^{NO_ROOM} any more"):
        fourth.restart()


def test_a_node_without_the_images_is_named(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    trainer = WorkerActor(make_config(), tmp_path / "none", fuses=False)

    with pytest.raises(CacheError, match=rf"/none: not on the node {platform.node()}; .* a file system that the nodes"):
        trainer.advance(WorkerCommand())


def test_what_a_worker_raises_arrives_as_it_was(open_cluster):
    (slot,) = open_cluster(FakeRay({"CPU": 1}), 1).slots
    wrapped, raised = RuntimeError("a page of it"), CacheError("one line")
    wrapped.cause = raised
    answer = Future()
    answer.set_exception(wrapped)
    slot.actor.advance = SimpleNamespace(remote=lambda command: SimpleNamespace(future=lambda: answer))

    assert slot.submit(WorkerCommand()).exception() is raised


@pytest.fixture
def refusal(make_config, small_cache, monkeypatch):
    """What is said of a cluster that cannot be used."""
    for name, value in (ENVIRONMENT | LOOPBACK).items():
        monkeypatch.setenv(name, value)

    def refused(**search):
        with (
            pytest.raises(ConfigError) as caught,
            open_slots(make_config(executor="ray", **search), small_cache, 2, 1),
        ):
            pass
        return str(caught.value)

    return refused


def test_a_cluster_that_is_away_is_named(refusal):
    line = refusal(ray_address="127.0.0.1:1")

    assert re.match(
        r"search\.ray_address: no Ray cluster answers at 127\.0\.0\.1:1 \(.*refused\); start it with ", line
    )
    assert "\n" not in line


@pytest.mark.parametrize("address", ["nonsense", "ray://127.0.0.1:1", "127.0.0.1:port", "127.0.0.1:123456"])
def test_what_is_no_address_is_refused(refusal, address):
    line = refusal(ray_address=address)

    assert line.startswith("search.ray_address: ")
    assert address in line
    assert "\n" not in line


def test_without_ray_the_extra_is_named(refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)

    assert refusal() == (
        "search.executor: ray is not installed; run `pip install --editable '.[ray]'`, or set it to local"
    )


@pytest.fixture
def two_nodes(monkeypatch):
    """The address of a cluster with room for two workers, and a process that takes away one of its nodes when told."""
    for name, value in (ENVIRONMENT | LOOPBACK).items():
        monkeypatch.setenv(name, value)
    # Ray leaves its logs there; pytest's own directories are too deep for its sockets.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as directory:
        monkeypatch.setenv("RAY_TMPDIR", directory)
        with subprocess.Popen(
            [sys.executable, NODES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as nodes:
            yield nodes.stdout.readline().strip(), nodes.stdin
            nodes.communicate()


def test_a_search_goes_on_where_a_cluster_has_lost_a_node(scene, two_nodes):
    address, commands = two_nodes
    running = scene(workers=3, executor="ray", ray_address=address, trials=4, epochs=300)
    running.wait_until_it_trains()
    commands.write("lose a node\n")
    commands.flush()
    found = running.result()

    assert (found["states"], found["running"]) == (["COMPLETE"] * 4, 0)
    ((state, params),) = found["interrupted"]
    assert state == "FAIL"
    assert params in found["params"]
    assert found["complaints"].startswith(
        f"warning: search.ray_address: the cluster at {address} has room for 2 of 3 workers"
    )
