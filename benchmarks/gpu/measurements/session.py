"""Runs measurements within a time limit and saves each value as soon as it is known."""

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from benchmarks.harness import Figures, NotHere, Values, listed, rounded

from darkroom.utils.files import write_json

# Another training may take this many times as long as the longest so far.
MARGIN = 1.2


class Results:
    """A results document in the format of ``benchmarks.harness``. Each value is saved to ``path`` at once."""

    def __init__(
        self, path: Path, title: str, conditions: Mapping[str, Any], goals: Sequence[Mapping[str, Any]]
    ) -> None:
        self.path = path
        self._title, self._conditions, self._goals = title, dict(conditions), list(goals)
        self.took: dict[str, float] = {}
        self._values: Values = {}
        self._missing: list[dict[str, Any]] = []
        self.write()

    def add(self, case: str, name: str, figures: Figures) -> None:
        """Add to the figures of a way, {unit: value or values}."""
        for unit, found in figures.items():
            self._values.setdefault((case, name, unit), []).extend(rounded(found))
        self.write()

    def miss(self, case: str, name: str, reason: str, trace: str | None = None) -> None:
        """Record what could not be measured; ``trace`` if that is a failure."""
        entry = {"case": case, "name": name, "reason": reason, "failed": trace is not None}
        self._missing.append(entry | ({"traceback": trace} if trace else {}))
        self.write()

    @property
    def has_failures(self) -> bool:
        return any(entry["failed"] for entry in self._missing)

    def write(self) -> None:
        document = {
            "benchmark": self.path.stem,
            "title": self._title,
            "conditions": self._conditions,
            "baselines": [],
            "results": listed(self._values),
            "not_measured": self._missing,
            "goals": self._goals,
            "took_seconds": self.took,
        }
        write_json(self.path, document)


@dataclass
class Session:
    """What the measurements share.

    ``data`` is the directory with the images, ``place`` the one to write to, ``deadline`` a time of ``time.monotonic``,
    in seconds. With ``small`` a measurement only shows that it works.
    """

    data: Path
    place: Path
    device: torch.device
    results: Results
    deadline: float
    small: bool = False
    airbench: Path | None = None
    prepared: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def repeats(self, count: int) -> Iterator[int]:
        """Up to ``count`` rounds, as long as there is time for another; one if the session is a small one."""
        longest = 0.0
        for number in range(1 if self.small else count):
            if self.left < MARGIN * longest:
                return
            start = time.monotonic()
            yield number
            longest = max(longest, time.monotonic() - start)

    def needs_gpu(self) -> None:
        if self.device.type != "cuda":
            raise NotHere("there is no CUDA GPU on this machine")


@dataclass(frozen=True)
class Measurement:
    """``seconds`` is what ``run`` needs on one H100 with 16 processor cores, by estimate."""

    name: str
    seconds: float
    run: Callable[[Session], None]


def take(session: Session, measurements: Sequence[Measurement]) -> None:
    """Run the measurements that there is time for. A failed one does not stop the others."""
    for measurement in measurements:
        left = session.left
        if left < measurement.seconds and not session.small:
            session.results.miss("", measurement.name, f"needs {measurement.seconds:.0f} s, {left:.0f} were left")
            continue
        print(f"{measurement.name}, {left:.0f} s left", flush=True)
        try:
            measurement.run(session)
        except NotHere as reason:
            session.results.miss("", measurement.name, str(reason))
        except Exception as problem:  # recorded, and shown where the document is read
            lines = traceback.format_exception(problem)
            print(lines[-1], flush=True)
            session.results.miss("", measurement.name, f"failed: {lines[-1].strip()}", "".join(lines))
        session.results.took[measurement.name] = round(left - session.left, 2)
        session.results.write()
        if session.device.type == "cuda":
            torch.cuda.empty_cache()
