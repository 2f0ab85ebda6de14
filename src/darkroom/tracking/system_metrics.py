"""How much of the machine is used while a run is recorded, for MLflow's tab "System metrics".

The names and units are those of MLflow's own monitor. That cannot be used: it writes to the store itself, asks it about
the run before each sample and gives up if it does not answer, and importing it imports MLflow.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import psutil

# As MLflow's monitor. Each sample is the mean since the one before, where that is what it measures.
INTERVAL_SECONDS = 10.0
# At the end of a run, the time since the last sample makes another one if it is at least this long.
LEAST_SECONDS = 1.0
# MLflow's own variable, which turns its monitor on and off.
ENABLED = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"

Points = list[list[Any]]


class SystemMonitor:
    """A thread that samples the use of the machine, as a context.

    ``send`` takes points [name, value, milliseconds, step], in this thread. ``cpu_seconds`` is what it costs.
    """

    def __init__(self, send: Callable[[Points], object]) -> None:
        self.cpu_seconds = 0.0
        self._send = send
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="system metrics", daemon=True)

    def __enter__(self) -> Self:
        if os.environ.get(ENABLED, "true").lower() not in ("false", "0"):
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        gpus = open_gpus()
        psutil.cpu_percent()  # from here on
        has_ended = False
        # A full disk is met by the stage too, which says so.
        with suppress(OSError):
            while not has_ended:
                began = time.monotonic()
                has_ended = self._ended.wait(INTERVAL_SECONDS)
                if time.monotonic() - began >= LEAST_SECONDS:
                    self._send(as_points(sample(gpus)))
                self.cpu_seconds = time.thread_time()


def as_points(values: Mapping[str, float]) -> Points:
    """The values now, as points. The step is the time in seconds: it also grows in a run that is resumed."""
    now = time.time_ns() // 1_000_000
    return [[f"system/{name}", round(value, 1), now, now // 1000] for name, value in values.items()]


def sample(gpus: "Gpus | None") -> dict[str, float]:
    """The use of the machine by all its programs: percentages, megabytes and watts, as the names say."""
    memory = psutil.virtual_memory()
    values = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / 1e6,
        "system_memory_usage_percentage": 100 * memory.used / memory.total,
    }
    return values | (gpus.sample() if gpus else {})


def open_gpus() -> "Gpus | None":
    """NVIDIA's GPUs; None where there are none, or no library to ask."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return Gpus(pynvml)
    except pynvml.NVMLError:
        return None


class Gpus:
    """NVIDIA's GPUs of this machine, in the order of NVIDIA's library; ``library`` is pynvml."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._handles = [library.nvmlDeviceGetHandleByIndex(each) for each in range(library.nvmlDeviceGetCount())]

    def sample(self) -> dict[str, float]:
        """What each GPU can tell of its use: some know no utilization (MIG), or no power."""
        values: dict[str, float] = {}
        for number, handle in enumerate(self._handles):
            for part in (self._memory, self._utilization, self._power):
                with suppress(self._library.NVMLError):
                    values |= {f"gpu_{number}_{name}": value for name, value in part(handle).items()}
        return values

    def _memory(self, handle: Any) -> dict[str, float]:
        memory = self._library.nvmlDeviceGetMemoryInfo(handle)
        values = {"memory_usage_megabytes": memory.used / 1e6}
        return values | _percentage("memory_usage", memory.used, memory.total)

    def _utilization(self, handle: Any) -> dict[str, float]:
        return {"utilization_percentage": self._library.nvmlDeviceGetUtilizationRates(handle).gpu}

    def _power(self, handle: Any) -> dict[str, float]:
        power = self._library.nvmlDeviceGetPowerUsage(handle)
        limit = self._library.nvmlDeviceGetEnforcedPowerLimit(handle)
        return {"power_usage_watts": power / 1000} | _percentage("power_usage", power, limit)


def _percentage(name: str, used: float, whole: float) -> dict[str, float]:
    """The share of ``whole`` that is used; nothing where a driver tells 0 for what it does not know."""
    return {f"{name}_percentage": 100 * used / whole} if whole else {}
