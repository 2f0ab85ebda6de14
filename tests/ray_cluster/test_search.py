"""Searches whose workers are actors of a real Ray cluster: one that is there, and ones that are started for them."""

import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
from tests.ray_cluster.cluster import command_of

OWN_CLUSTER = """
import sys
from darkroom.utils.ray_cluster import connected
with connected("search.ray_address", None):
    print("started", flush=True)
    sys.stdin.read()
"""


def places_of(family):
    """Where the processes of a cluster leave their files."""
    return {Path(place) for process in family for place in re.findall(r"/tmp/ray\w+", command_of(process))}


def test_a_search_goes_on_where_the_cluster_loses_a_node_and_then_its_last_worker(scene, cluster):
    running = scene(workers=3, executor="ray", ray_address=cluster.address, trials=4, epochs=300)
    running.wait_until_it_trains()
    cluster.lose_one()
    (worker,) = cluster.processes("WorkerActor")
    worker.kill()
    found = running.result()
    cluster.add_one()

    assert (found["states"], found["epochs"], found["running"]) == (["COMPLETE"] * 4, [300] * 4, 0)
    assert [state for state, _ in found["interrupted"]] == ["FAIL"] * 2
    assert all(params in found["params"] for _, params in found["interrupted"])
    assert found["imported"] == ["ray"]
    where = f"warning: search.ray_address: the cluster at {cluster.address} has room for"
    first, second = found["complaints"].splitlines()
    assert first.startswith(f"{where} 2 of 3 workers")
    assert second.startswith(f"{where} 1 workers only")


def test_a_cluster_of_its_own_leaves_nothing_behind(all_end):
    with subprocess.Popen(
        [sys.executable, "-c", OWN_CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "started\n"
        family = psutil.Process(process.pid).children(recursive=True)
        places = places_of(family)
        process.communicate()

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
