"""What a step of cifar10-fast takes: by precision and mode of torch.compile, and kernel by kernel."""

import time
from typing import get_args

import torch
from benchmarks.gpu.measurements.data import recipe
from benchmarks.gpu.measurements.session import Session
from benchmarks.gpu.measurements.training import begin
from torch.profiler import DeviceType, ProfilerActivity, profile

from darkroom.config.settings import Train
from darkroom.errors import ConfigError
from darkroom.training.loop import TrainingLoop

CASE = "Step of cifar10-fast"
STEP_TIME = "ms a step"
MODES = get_args(Train.model_fields["compile"].annotation)
PRECISIONS = [each for each in get_args(Train.model_fields["precision"].annotation) if each != "auto"]
ROUNDS = 3
# Compiling for one more way may take as long.
SECONDS = 60


def modes(session: Session) -> None:
    """A pass over the images, by precision and mode; without a graph as well where steps are captured."""
    config, data = recipe(session, "cifar10-fast")
    for mode in MODES if session.device.type == "cuda" else ("none",):
        for precision in PRECISIONS:
            way = f"{precision}, compile {mode}"
            if session.left < SECONDS and mode != "none":
                session.results.miss(CASE, way, f"needs {SECONDS} s, {session.left:.0f} were left")
                continue
            settings = {"train.precision": precision, "train.compile": mode}
            try:
                loop = begin(session, config.with_settings(settings), data)
            except ConfigError as problem:
                session.results.miss(CASE, way, str(problem))
                continue
            for note in loop.result.notes:
                session.results.miss(CASE, f"{way}, captured", note)
            _measure(session, loop, way)
            if loop.captured and mode == "none":
                loop.stop_capturing()
                _measure(session, loop, f"{way}, kernel by kernel")


def _measure(session: Session, loop: TrainingLoop, way: str) -> None:
    loop.train_pass()
    for _ in session.repeats(ROUNDS):
        start = time.perf_counter()
        loop.train_pass()  # which ends with reading the loss: the device is done
        seconds = time.perf_counter() - start
        session.results.add(CASE, way, {STEP_TIME: 1000 * seconds / len(loop.batches)})


def kernels(session: Session) -> None:
    """Kernels, launches and the share of a pass in which the GPU is idle, in bf16, captured and kernel by kernel."""
    session.needs_gpu()
    config, data = recipe(session, "cifar10-fast")
    loop = begin(session, config.with_settings({"train.precision": "bf16"}), data)
    ways = ["captured", "kernel by kernel"] if loop.captured else ["kernel by kernel"]
    for way in ways:
        if way == "kernel by kernel":
            loop.stop_capturing()
        loop.train_pass()
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
            start = time.perf_counter()
            loop.train_pass()
            seconds = time.perf_counter() - start
        events = list(profiled.events() or [])
        on_gpu = [event for event in events if event.device_type == DeviceType.CUDA]
        launches = sum(event.name in ("cudaLaunchKernel", "cudaLaunchKernelExC", "cudaGraphLaunch") for event in events)
        busy = _covered([(event.time_range.start, event.time_range.end) for event in on_gpu]) / 1e6
        steps = len(loop.batches)
        figures = {"kernels a step": len(on_gpu) / steps, "launches a step": launches / steps}
        session.results.add(f"{CASE}, profiled", way, figures | {"% idle": 100 * (1 - busy / seconds)})


def _covered(ranges: list[tuple[float, float]]) -> float:
    """The length of the union of the ranges."""
    covered, last = 0.0, float("-inf")
    for start, end in sorted(ranges):
        covered += max(0.0, end - max(start, last))
        last = max(last, end)
    return covered
