"""Placeholder."""

from collections.abc import Sequence
from typing import Any

from darkroom.evaluation.metrics import Floats
from darkroom.evaluation.reference import Reference


class DriftWatch:
    def __init__(self, reference: Reference, classes: Sequence[str], window: int) -> None: ...

    def add(self, labels: Any, confidences: Floats, energies: Floats) -> None: ...

    def report(self) -> dict[str, Any] | None:
        return None
