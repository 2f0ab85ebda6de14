"""Workers on shards, which may be killed, and the cache that they make: that of one process, to the byte."""

import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from tests import defaults
from tests.forkserver import context
from tests.ports import free_port
from tests.stages import run_stages
from tests.unit.datasets import preprocessing
from tests.unit.datasets.folders import as_directory
from tests.unit.datasets.test_resuming import files
from tests.wait import wait_until

from darkroom.datasets import ray_workers
from darkroom.datasets.decoding import versions
from darkroom.datasets.ray_workers import RayWorkers, on_node
from darkroom.datasets.workers import LostShardError, Processes, processes_or_this
from darkroom.errors import ConfigError, DataError

pytestmark = pytest.mark.slow


def die_until(marks: Path, deaths: int, number: int) -> int:
    """Kills its process so many times if the number is 3."""
    if number == 3 and len(list(marks.iterdir())) < deaths:
        (marks / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


SHARDS = {number: (number,) for number in range(7)}


def test_a_shard_whose_worker_is_killed_is_done_again(tmp_path):
    with processes_or_this(2) as workers:
        found = dict(workers.run(partial(die_until, tmp_path, 2), SHARDS))
    assert found == {number: number * number for number in range(7)}


def test_a_shard_that_kills_three_workers_is_given_up_after_all_others(tmp_path):
    found = []
    with processes_or_this(2) as workers:
        results = workers.run(partial(die_until, tmp_path, 9), SHARDS)
        with pytest.raises(LostShardError) as caught:
            found.extend(results)
    assert caught.value.shard == 3
    assert len(list(tmp_path.iterdir())) == 3
    assert dict(found) == {number: number * number for number in range(7) if number != 3}


def test_what_is_killed_while_there_is_nothing_to_do_is_replaced():
    workers = Processes(1)
    try:
        assert list(workers.run(abs, {0: (-1,)})) == [(0, 1)]
        (child,) = [each for each in psutil.Process().children() if "spawn_main" in " ".join(each.cmdline())]
        child.kill()
        child.wait()
        assert list(workers.run(abs, {0: (-2,)})) == [(0, 2)]
    finally:
        workers.close()


def contents(root):
    return {path.name: path.read_bytes() for path in sorted((root / "data" / "processed" / "folder").iterdir())}


@pytest.fixture(scope="module")
def cache_of_one_process(tmp_path_factory):
    """A project, and its cache."""
    root = tmp_path_factory.mktemp("project")
    as_directory(root / "data" / "folder", files(40))
    defaults.write_params(root, dataset__name="folder", dataset__on_broken="skip", preprocess__on_suspect="warn")
    run_stages(root, "download", "preprocess")
    assert [path.name for path in (root / "data" / "processed").iterdir()] == ["folder"]
    return root, contents(root)


@pytest.fixture
def root(cache_of_one_process, tmp_path):
    """The same project without the cache."""
    shutil.copytree(cache_of_one_process[0], tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "data" / "processed")
    return tmp_path / "copy"


@pytest.mark.parametrize("after", [1, 6])
def test_a_preprocessing_that_is_killed_resumes_to_the_same_bytes(root, cache_of_one_process, capsys, after):
    child = context().Process(target=preprocessing.preprocess, args=(root, "this", after))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert not (root / "data" / "processed" / "folder").exists()

    preprocessing.preprocess(root)
    assert f"decode: resuming after {4 * after} of 40 images" in capsys.readouterr().err
    assert contents(root) == cache_of_one_process[1]
    assert [path.name for path in (root / "data" / "processed").iterdir()] == ["folder"]


def test_a_preprocessing_goes_on_without_a_worker_that_is_killed(root, cache_of_one_process):
    preprocessing.preprocess(root, "worker", 2)
    assert contents(root) == cache_of_one_process[1]


def test_ctrl_c_ends_all_processes_and_keeps_what_is_finished(root, cache_of_one_process, capsys):
    child = context().Process(target=preprocessing.interrupted, args=(root,))
    child.start()
    family = wait_until(lambda: (root / "ready").exists() and psutil.Process(child.pid).children(recursive=True), "it")
    os.kill(child.pid, signal.SIGINT)
    child.join()

    assert child.exitcode == 130
    assert psutil.wait_procs(family, timeout=60)[1] == []
    preprocessing.preprocess(root)
    assert "decode: resuming after 12 of 40 images" in capsys.readouterr().err
    assert contents(root) == cache_of_one_process[1]


def test_ray_makes_the_same_bytes_though_a_worker_is_killed(root, cache_of_one_process):
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("  executor: local", "  executor: ray", 1))
    command = [sys.executable, "-m", "tests.unit.datasets.preprocessing", str(root), "worker", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert contents(root) == cache_of_one_process[1]


def test_a_node_without_the_images_or_with_another_decoder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.zip: not on the node \S+; .* from a file system that they share$"):
        on_node(abs, (-1,), tmp_path / "none.zip", versions())
    (tmp_path / "some.zip").touch()
    with pytest.raises(DataError, match=r"^the node \S+ has numpy \S+, and this machine 0, which may decode"):
        on_node(abs, (-1,), tmp_path / "some.zip", versions() | {"numpy": "0"})
    assert on_node(abs, (-1,), tmp_path / "some.zip", versions()) == 1


class FakeRay:
    """A cluster of a processor, on which tasks are done at once; the worker of 3 is killed each time."""

    exceptions = SimpleNamespace(RayError=ConnectionError, RayTaskError=ZeroDivisionError)

    def __init__(self, cpus=1):
        self.cpus, self.most = cpus, 0

    def cluster_resources(self):
        return {"CPU": self.cpus}

    def remote(self, **options):
        assert options == {"num_cpus": 1, "max_retries": 2}
        return lambda function: SimpleNamespace(remote=lambda task, given, *where: (task, given))

    def wait(self, running):
        self.most = max(self.most, len(running))
        return running[-1:], running[:-1]

    def get(self, found):
        task, given = found
        if given == (3,):
            raise ConnectionError
        return task(*given)


def test_a_shard_that_ray_cannot_finish_is_told_after_all_others(tmp_path):
    ray, found = FakeRay(), []
    results = RayWorkers(ray, None, tmp_path).run(abs, SHARDS)
    with pytest.raises(LostShardError) as caught:
        found += [next(results) for _ in range(7)]
    assert caught.value.shard == 3
    assert ray.most == ray_workers.AHEAD


def test_a_cluster_without_a_processor_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"^preprocess\.ray_address: the cluster at h:1 has no processor .* which resumes$"
    ):
        list(RayWorkers(FakeRay(0), "h:1", tmp_path).run(abs, SHARDS))


def test_a_cluster_that_is_away_is_named(tmp_path):
    with (
        pytest.raises(ConfigError, match=r"^preprocess\.ray_address: no Ray cluster answers at 127"),
        ray_workers.ray_workers(f"127.0.0.1:{free_port()}", tmp_path),
    ):
        pass
