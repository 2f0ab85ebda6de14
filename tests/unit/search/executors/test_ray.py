"""Workers in a Ray cluster: how many it takes, and clusters that are not there. tests/ray_cluster/ has real ones."""

import platform
import re
import sys
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
import torch

from darkroom.errors import CacheError, ConfigError, SearchError
from darkroom.search.executors import open_slots
from darkroom.search.executors.ray_cluster import Cluster, WorkerActor
from darkroom.search.worker import WorkerCommand
from darkroom.utils.ray_cluster import ENVIRONMENT, LOOPBACK


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

    assert refusal() == ("search.executor: ray is not installed; run `pip install --editable '.[ray]'`")
