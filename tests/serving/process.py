"""`darkroom serve` as a process of its own."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.wait import SECONDS, wait_until

# What a person's environment does not hold: the store that this process used last, which MLflow leaves there, and
# what the tests forbid ONNX Runtime, for the server is to do so itself.
OURS = {"MLFLOW_TRACKING_URI", "ORT_DISABLE_TELEMETRY"}

OPEN_FILES = 256
# Of private memory, which torch and MLflow take some 700 MB of. Of no effect on macOS.
MEMORY_KB = 2 << 20


@dataclass(frozen=True)
class Served:
    """A server that listens at ``address``; ``log`` holds what it says."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path

    def stop(self, number: int) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@contextmanager
def serve(root: Path, **environment: str) -> Iterator[Served]:
    """A server of the project in ``root`` on a free port, which may have few files open and little memory."""
    program = [sys.executable, "-m", "darkroom", "serve", "--port", "0"]
    command = ["sh", "-c", f'ulimit -n {OPEN_FILES}; ulimit -d {MEMORY_KB}; exec "$@"', "sh", *program]
    inherited = {name: value for name, value in os.environ.items() if name not in OURS}
    with (
        tempfile.NamedTemporaryFile(suffix=".log") as log,
        subprocess.Popen(command, cwd=root, env=inherited | environment, stdout=log, stderr=log) as process,
    ):
        try:
            yield Served(process, _address(process, Path(log.name)), Path(log.name))
        finally:
            process.kill()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    def told() -> re.Match[str] | None:
        return re.search(r"on (http://\S+), until Ctrl-C", log.read_text(encoding="utf-8"))

    try:
        return wait_until(told, "the server said where it listens", process)[1]
    except AssertionError as problem:
        raise AssertionError(log.read_text(encoding="utf-8")) from problem
