"""`darkroom serve` as a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SECONDS = 120  # for a server that does not start or end; nothing is measured


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


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "darkroom", "serve", *arguments]


@contextmanager
def serve(root: Path, **environment: str) -> Iterator[Served]:
    """A server of the project in ``root`` on a free port."""
    log = root / "serve.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            command("--port", "0"), cwd=root, env=os.environ | environment, stdout=written, stderr=written
        )
    try:
        yield Served(process, _address(process, log), log)
    finally:
        process.kill()
        process.wait(SECONDS)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(10 * SECONDS):
        if found := re.search(r"on (http://\S+), until Ctrl-C", log.read_text(encoding="utf-8")):
            return found[1]
        try:
            process.wait(0.1)
            break
        except subprocess.TimeoutExpired:
            continue
    raise RuntimeError(log.read_text(encoding="utf-8"))
