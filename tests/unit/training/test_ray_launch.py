"""Trainings on a Ray cluster: what they need of its nodes, and what is refused. tests/ray_cluster/ has a real one."""

import os
import platform
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from darkroom.config.settings import Train
from darkroom.errors import ConfigError, LostProcessError
from darkroom.training import ray_launch
from darkroom.training.ray_launch import MemberError, be_member, devices_of, launch_on_ray
from darkroom.utils.ray_cluster import ENVIRONMENT

CPUS = {"CPU": 4.0, "memory": 1e9}
GPUS = {"CPU": 16.0, "GPU": 2.0}


def cluster(*resources: dict[str, float]) -> Any:
    return SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": each} for each in resources])


def on_ray(**settings: Any) -> Train:
    return Train(**{"executor": "ray", "ray_address": "host:1", "batch_size": 48} | settings)


@pytest.mark.parametrize(
    ("nodes", "settings", "count", "needs"),
    [
        ([CPUS, CPUS], {"devices": 2}, 2, {"CPU": 4}),
        ([CPUS, CPUS], {"devices": 3}, 3, {"CPU": 2}),
        ([CPUS, CPUS], {"devices": 8}, 8, {"CPU": 1}),
        ([CPUS, CPUS], {"devices": "auto"}, 1, {"CPU": 4}),
        ([CPUS, GPUS, GPUS], {"devices": "auto"}, 4, {"CPU": 1, "GPU": 1}),
        ([CPUS, GPUS], {"devices": 2, "device": "cuda"}, 2, {"CPU": 1, "GPU": 1}),
        ([CPUS, GPUS], {"devices": 4, "device": "cpu"}, 4, {"CPU": 4}),
    ],
)
def test_each_device_gets_its_share_of_the_cluster(
    nodes: list[dict[str, float]], settings: dict[str, Any], count: int, needs: dict[str, float]
) -> None:
    assert devices_of(cluster(*nodes), on_ray(**settings)) == (count, needs)


@pytest.mark.parametrize(
    ("nodes", "settings", "told"),
    [
        (
            [CPUS],
            {"devices": 6},
            "train.devices: 6 are more than the cluster at host:1 has (4 cores); set it to 4 or less",
        ),
        (
            [CPUS, GPUS],
            {"devices": 3},
            "train.devices: 3 are more than the cluster at host:1 has (2 GPUs); set it to 2 or less",
        ),
        (
            [CPUS],
            {"device": "cuda"},
            "train.device: cuda is not available in the cluster at host:1; choose from: auto, cpu",
        ),
        (
            [CPUS],
            {"device": "mps"},
            "train.device: mps cannot be used in the cluster at host:1; choose from: auto, cpu, cuda",
        ),
        (
            [GPUS, GPUS],
            {"devices": "auto", "batch_size": 6},
            "train.batch_size: 6 cannot be divided among 4 devices; the next that can is 8",
        ),
    ],
)
def test_what_a_cluster_cannot_train_is_refused(
    nodes: list[dict[str, float]], settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        devices_of(cluster(*nodes), on_ray(**settings))
    assert raised.value.lines == [told]


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The line that refuses a training before any work."""
    monkeypatch.chdir(tmp_path)
    for name, value in (ENVIRONMENT | ray_launch.ENVIRONMENT).items():
        monkeypatch.setenv(name, value)

    def refused(**settings: Any) -> str:
        with pytest.raises(ConfigError) as raised:
            launch_on_ray(on_ray(**settings), pytest.fail, "was started")
        assert not list(tmp_path.iterdir())
        (line,) = raised.value.lines
        return line

    return refused


def test_a_batch_that_the_devices_cannot_divide_is_refused_before_a_cluster_is_looked_for(refusal: Any) -> None:
    assert refusal(devices=5).startswith("train.batch_size: 48 cannot be divided among 5 devices; the next that can is")


def test_a_cluster_that_is_away_is_named(refusal: Any) -> None:
    line = refusal(ray_address="127.0.0.1:1")
    assert re.match(r"train\.ray_address: no Ray cluster answers at 127\.0\.0\.1:1 \(.*refused\); start it with ", line)


def test_without_ray_the_extra_is_named(refusal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert refusal() == ("train.executor: ray is not installed; run `pip install --editable '.[ray]'`")


# --- in the cluster ----------------------------------------------------------------------------------


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Be a process of the cluster, whose streams are this one's; gives what it raises."""
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(ray_launch, "PATIENCE_SECONDS", 0.0)
    monkeypatch.chdir(Path.cwd())
    monkeypatch.setattr(os, "environ", dict(os.environ))

    def ended(root: Path, work: Any) -> Exception:
        with pytest.raises(MemberError) as raised:
            be_member(root, {"MLFLOW_TRACKING_URI": "told"}, {"stdout": sys.stdout, "stderr": sys.stderr}, work)
        return raised.value.problem

    return ended


def test_a_node_without_the_project_is_named(member: Any, tmp_path: Path) -> None:
    problem = member(tmp_path / "none", pytest.fail)
    assert isinstance(problem, ConfigError)
    assert problem.lines[0].startswith(f"{tmp_path / 'none'}: not on the node {platform.node()}; the processes of a")


def test_a_process_works_in_the_project_with_what_it_was_told(member: Any, tmp_path: Path) -> None:
    def work() -> None:
        raise ValueError(Path.cwd(), os.environ["MLFLOW_TRACKING_URI"])

    assert member(tmp_path, work).args == (tmp_path, "told")


class WorkerGroupStartupTimeoutError(Exception):
    """As Ray Train names it."""


RAISED, FOLLOWS = MemberError(ValueError("mine")), MemberError(LostProcessError("follows"))
LOST = RuntimeError("a page of Ray's")


@pytest.mark.parametrize(
    ("failure", "kind", "told"),
    [
        ({"worker_failures": {0: FOLLOWS, 1: RAISED}}, ValueError, "mine"),
        ({"worker_failures": {0: FOLLOWS, 1: LOST}}, LostProcessError, "process 1 of the 2 that train together has"),
        (
            {"controller_failure": WorkerGroupStartupTimeoutError()},
            ConfigError,
            "train.devices: the cluster at host:1 had no room for 2 within 120 seconds, each of which needs 1 CPU of a",
        ),
        (
            {"controller_failure": ModuleNotFoundError("No module named 'darkroom'")},
            ConfigError,
            "train.executor: a node of the cluster at host:1 has no module darkroom; install on every node what this",
        ),
        ({"controller_failure": ValueError("a mistake of Ray's")}, RuntimeError, "of all"),
    ],
)
def test_the_first_cause_of_a_failure_is_told(failure: dict[str, Any], kind: type, told: str) -> None:
    failed = RuntimeError(f"of all: {list(failure.values())}")
    vars(failed).update(failure)
    problem = ray_launch.explained(failed, on_ray(devices=2), 2, {"CPU": 1})
    assert isinstance(problem, kind)
    assert str(problem).startswith(told)
