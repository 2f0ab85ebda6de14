"""The use of the machine is logged as MLflow's own monitor would, and costs a run nothing where it cannot be."""

import sys
import threading
from collections import namedtuple
from types import SimpleNamespace

import psutil
import pytest
from mlflow.system_metrics.metrics import gpu_monitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from tests.wait import SECONDS

from darkroom.tracking import system_metrics
from darkroom.tracking.system_metrics import SystemMonitor, as_points, open_gpus, sample

Memory = namedtuple("Memory", "used total")


class NotSupportedError(Exception):
    pass


class Library:
    """pynvml on a machine with two GPUs; the second does not tell its power."""

    NVMLError = NotSupportedError

    def __init__(self, initialized=True):
        self.initialized = initialized

    def nvmlInit(self):  # noqa: N802 - NVIDIA's names
        if not self.initialized:
            raise NotSupportedError("no driver")

    def nvmlDeviceGetCount(self):  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, number):  # noqa: N802
        return number

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802
        return Memory(1_234_567_890 * (handle + 1), 8_000_000_000)

    def nvmlDeviceGetUtilizationRates(self, handle):  # noqa: N802
        return SimpleNamespace(gpu=37 + handle)

    def nvmlDeviceGetPowerUsage(self, handle):  # noqa: N802
        if handle == 1:
            raise NotSupportedError("no power")
        return 123_456

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):  # noqa: N802
        return 700_000


@pytest.fixture
def library(monkeypatch):
    def install(library):
        monkeypatch.setitem(sys.modules, "pynvml", library)
        monkeypatch.setattr(gpu_monitor, "pynvml", library, raising=False)

    return install


def as_logged(values):
    return {point[0]: point[1] for point in as_points(values)}


def as_mlflow_logs(monitor):
    monitor.collect_metrics()
    return {f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}


def test_processor_and_memory_are_told_as_by_mlflows_monitor(monkeypatch):
    monkeypatch.setattr(psutil, "cpu_percent", lambda: 12.34)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(7_654_321_000, 16_000_000_000))
    assert as_logged(sample(None)) == as_mlflow_logs(CPUMonitor())


def test_gpus_are_told_as_by_mlflows_monitor_also_where_one_lacks_something(library):
    library(Library())
    found = as_logged(open_gpus().sample())
    assert found == as_mlflow_logs(gpu_monitor.GPUMonitor())
    assert {key for key in found if "power" in key} == {
        "system/gpu_0_power_usage_watts",
        "system/gpu_0_power_usage_percentage",
    }


def test_a_gpu_that_tells_0_for_its_memory_or_limit_has_no_share_of_it(library, monkeypatch):
    monkeypatch.setattr(Library, "nvmlDeviceGetMemoryInfo", lambda self, handle: Memory(2_000_000, 0))
    monkeypatch.setattr(Library, "nvmlDeviceGetEnforcedPowerLimit", lambda self, handle: 0)
    library(Library())

    found = open_gpus().sample()

    assert {name: value for name, value in found.items() if name.startswith("gpu_0")} == {
        "gpu_0_memory_usage_megabytes": 2.0,
        "gpu_0_utilization_percentage": 37,
        "gpu_0_power_usage_watts": pytest.approx(123.456),
    }


@pytest.mark.parametrize("there", [None, Library(initialized=False)])
def test_without_a_gpu_or_its_library_there_are_no_metrics_of_gpus(library, there):
    library(there)
    assert open_gpus() is None
    assert not any("gpu" in name for name in sample(open_gpus()))


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(system_metrics, "INTERVAL_SECONDS", 0.001)
    monkeypatch.setattr(system_metrics, "LEAST_SECONDS", 0.0)


def test_samples_are_taken_until_the_run_ends_and_their_cost_is_known(often):
    sent, several = [], threading.Event()

    def send(points):
        sent.append(points)
        if len(sent) > 2:
            several.set()

    with SystemMonitor(send) as monitor:
        assert several.wait(SECONDS)
    assert not monitor._thread.is_alive()
    assert monitor.cpu_seconds > 0
    for points in sent:
        assert {point[3] for point in points} == {points[0][2] // 1000}
        assert "system/cpu_utilization_percentage" in {point[0] for point in points}


def test_a_run_that_ends_at_once_has_no_sample_and_a_longer_one_has_one(monkeypatch):
    sent = []
    with SystemMonitor(sent.append):
        pass
    assert not sent
    monkeypatch.setattr(system_metrics, "LEAST_SECONDS", 0.0)
    with SystemMonitor(sent.append):
        pass
    assert len(sent) == 1


@pytest.mark.parametrize("value", ["false", "False", "0"])
def test_mlflows_own_variable_turns_it_off(often, monkeypatch, value):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", value)
    sent = []
    with SystemMonitor(sent.append) as monitor:
        assert not monitor._thread.is_alive()
    assert not sent


def test_a_full_disk_ends_the_samples_and_not_the_run(often):
    asked = threading.Event()

    def send(points):
        asked.set()
        raise OSError("no space left on device")

    with SystemMonitor(send) as monitor:
        assert asked.wait(SECONDS)
        monitor._thread.join(SECONDS)
        assert not monitor._thread.is_alive()
