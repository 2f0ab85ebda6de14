"""Waiting for something that another process or thread does."""

import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
SECONDS = 600  # for a broken test; nothing is measured
STEP = 0.02


def wait_until(condition: Callable[[], T], what: str, process: subprocess.Popen[Any] | None = None) -> T:
    """Return the first true value of ``condition``.

    Raises AssertionError with ``what`` was waited for if ``process`` ends first, or after ten minutes.
    """
    deadline = time.monotonic() + SECONDS
    while True:
        has_ended = process is not None and process.poll() is not None
        if found := condition():
            return found
        if has_ended:
            assert process
            said = process.stdout.read() if process.stdout else ""
            raise AssertionError(f"the process ended before {what}; it said: {said}")
        assert time.monotonic() < deadline, f"{what}: not in {SECONDS} seconds"
        time.sleep(STEP)
