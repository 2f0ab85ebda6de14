"""Start the processes of a training on a Ray cluster, with Ray Train.

Every node needs this package, and the project at the same path: a file system that the nodes share.
"""

import io
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from itertools import count as numbers
from pathlib import Path
from typing import Any

import torch

from darkroom.config.settings import Train
from darkroom.errors import ConfigError, LostProcessError, counted
from darkroom.training.device import check_sharing
from darkroom.training.failures import first_cause, lost_process, portable
from darkroom.utils.ray_cluster import connected, named, room
from darkroom.utils.scratch import scratch_directory

# In which the cluster has room for all processes, where others use it too.
START_TIMEOUT_SECONDS = 120
# How long a process that has lost another waits for Ray to see which it was.
PATIENCE_SECONDS = 5.0
# Ray Train reads these here. A node that is about to be taken away is one that was lost: what was trained on it since
# the last checkpoint is little.
ENVIRONMENT = {
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(START_TIMEOUT_SECONDS),
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
# What the processes are told of this one's environment: where runs, models and weights are, and who may have them. It
# goes with the work, as Ray would show what belongs to a runtime environment.
TOLD = ("MLFLOW_", "AWS_", "AZURE_", "GOOGLE_")


def launch_on_ray(settings: Train, work: Callable[..., None], *given: Any) -> None:
    """Run ``work`` with ``given`` in a process for each device, with the environment that ``joined`` reads.

    They are processes of the cluster of train.ray_address, or of one that is started for them here. What they write
    to standard output and error is written here. If one of them fails or is killed, the others are ended.

    Raises what it has raised, LostProcessError if it was killed, and ConfigError if there is no cluster, or it has no
    room for so many devices, or they cannot train together.
    """
    os.environ.update(ENVIRONMENT)
    if settings.devices != "auto":
        check_sharing(settings, int(settings.devices))
    with (
        connected("train.ray_address", settings.ray_address, asked_by="train.executor") as ray,
        scratch_directory() as storage,
    ):
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.util.queue import Queue

        count, needs = devices_of(ray, settings)
        written = Queue(actor_options={"num_cpus": 0})
        streams = {name: RemoteStream(written, name, getattr(sys, name).isatty()) for name in ("stdout", "stderr")}
        environment = {key: value for key, value in os.environ.items() if key.startswith(TOLD)}
        trainer = TorchTrainer(
            partial(be_member, Path.cwd(), environment, streams, partial(work, *given)),
            scaling_config=ScalingConfig(num_workers=count, use_gpu="GPU" in needs, resources_per_worker=needs),
            run_config=RunConfig(
                storage_path=str(storage),
                # mypy sees the class of Ray Train's first version.
                failure_config=FailureConfig(controller_failure_limit=0, max_preemption_failures=0),  # type: ignore[call-arg]
            ),
        )
        try:
            _fit(trainer, written)
        except Exception as failed:
            raise explained(failed, settings, count, needs) from None


def devices_of(ray: Any, settings: Train) -> tuple[int, dict[str, float]]:
    """How many devices of the cluster train together, and what of a node each needs.

    On the CPU that is as many processors as each can have. Raises ConfigError if the cluster has fewer devices, or
    they cannot train together.
    """
    where = named(settings.ray_address)
    if settings.device == "mps":
        raise ConfigError(f"train.device: mps cannot be used in {where}; choose from: auto, cpu, cuda")
    gpus = room(ray, 1, 1)
    on_gpu = settings.device == "cuda" or (settings.device == "auto" and gpus > 0)
    if on_gpu and not gpus:
        raise ConfigError(f"train.device: cuda is not available in {where}; choose from: auto, cpu")
    there = gpus if on_gpu else room(ray, 1)
    count = int(settings.devices) if settings.devices != "auto" else there if on_gpu else 1
    if count > there:
        what = counted(there, "GPU" if on_gpu else "core")
        raise ConfigError(f"train.devices: {count} are more than {where} has ({what}); set it to {there} or less")
    check_sharing(settings, count)
    if on_gpu:
        return count, {"CPU": 1, "GPU": 1}
    return count, {"CPU": next(cpus for cpus in numbers(1) if room(ray, cpus + 1) < count)}


def _fit(trainer: Any, written: Any) -> None:
    """Train, and meanwhile write what the processes have ``written``.

    In a thread, as Ray Train would answer Ctrl-C in the main one, and end the command as if all were well.
    """
    from ray.util.queue import Empty

    ended: Future[None] = Future()

    def fit() -> None:
        try:
            trainer.fit()
            ended.set_result(None)
        except BaseException as problem:
            ended.set_exception(problem)

    threading.Thread(target=fit, daemon=True).start()
    is_last = False
    while not is_last:
        is_last = ended.done()
        try:
            while True:
                name, text = written.get(block=not is_last, timeout=0.2)
                stream = getattr(sys, name)
                stream.write(text)
                stream.flush()
        except Empty:
            pass
    ended.result()


def explained(failed: Exception, settings: Train, count: int, needs: Mapping[str, float]) -> Exception:
    """What has ended a training: what its first process has raised, the loss of one, or that there was no room."""
    where = named(settings.ray_address)
    failures: Mapping[int, Exception] = getattr(failed, "worker_failures", {})
    raised = {rank: problem.problem for rank, problem in failures.items() if isinstance(problem, MemberError)}
    if (cause := first_cause(raised)) is not None:
        return cause
    if failures:
        rank = min(set(failures) - set(raised) or failures)
        return lost_process(rank, count, f"in {where}, perhaps because memory ran out or its node is gone")
    if missing := re.search(r"No module named '(.+?)'", str(failed)):
        return ConfigError(
            f"train.executor: a node of {where} has no module {missing[1]}; install on every node what this one has"
        )
    # Ray's own class of it is not public.
    if type(getattr(failed, "controller_failure", None)).__name__ != "WorkerGroupStartupTimeoutError":
        return failed
    each = " and ".join(counted(int(number), name) for name, number in needs.items())
    return ConfigError(
        f"train.devices: {where} had no room for {count} within {START_TIMEOUT_SECONDS} seconds, each of which needs "
        f"{each} of a node that are free; wait for who uses it, or lower train.devices"
    )


class MemberError(Exception):
    """What a process of the training has raised, as distinct from what Ray says of one that has ended."""

    def __init__(self, problem: Exception) -> None:
        super().__init__(problem)
        self.problem = problem


class RemoteStream(io.TextIOBase):
    """Standard output or error of the command, for a process that works for it elsewhere."""

    def __init__(self, written: Any, name: str, is_terminal: bool) -> None:
        self._written, self._name, self._is_terminal = written, name, is_terminal

    def write(self, text: str) -> int:
        self._written.put((self._name, text))
        return len(text)

    def isatty(self) -> bool:
        return self._is_terminal

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteStream, (self._written, self._name, self._is_terminal)


def be_member(
    root: Path, environment: Mapping[str, str], streams: Mapping[str, RemoteStream], work: Callable[[], None]
) -> None:
    """Do the work in a process that Ray has started. Raises MemberError."""
    os.environ.update(environment)
    with redirect_stdout(streams["stdout"]), redirect_stderr(streams["stderr"]):
        try:
            if not root.is_dir():
                raise ConfigError(
                    f"{root}: not on the node {platform.node()}; the processes of a training in a cluster need the "
                    "project at the same path as the command, from a file system that the nodes share"
                )
            os.chdir(root)
            torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
            work()
        except Exception as problem:
            if isinstance(problem, LostProcessError):
                # Ray is to see which process was lost, and not this one that ends because of it.
                time.sleep(PATIENCE_SECONDS)
            raise MemberError(portable(problem)) from None
