"""Searches in processes of their own, which need no seconds to import what they need: see forking.py."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.wait import wait_until

FORKING = Path(__file__).with_name("forking.py")


class Forks:
    """The parent of these processes."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair()
        self._answers = self._socket.makefile()
        with other:
            self._parent = subprocess.Popen(
                [sys.executable, FORKING, str(other.fileno())],
                pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def ask(self, streams: list[int], **request: Any) -> Any:
        socket.send_fds(self._socket, [json.dumps(request).encode()], streams)
        return json.loads(self._answers.readline())

    def close(self) -> None:
        """End it; it has no processes left."""
        self._answers.close()
        self._socket.close()
        self._parent.wait()


class Forked:
    """A process that runs a search, with what tests need of ``subprocess.Popen``. ``errors`` takes its complaints."""

    def __init__(self, forks: Forks, errors: Path, *arguments: object) -> None:
        self._forks, self._errors = forks, errors
        self.returncode: int | None = None
        reading, writing = os.pipe()
        self.stdout = os.fdopen(reading)
        try:
            with errors.open("wb") as opened:
                streams = [writing, opened.fileno()]
                self.pid: int = forks.ask(streams, run=[*map(str, arguments)], environment=dict(os.environ))
        finally:
            os.close(writing)

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._forks.ask([], wait=self.pid)
        return self.returncode

    def wait(self) -> None:
        wait_until(lambda: self.poll() is not None, "the search ended")

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def communicate(self) -> tuple[str, str]:
        """What it has printed and what it has complained of, when it has ended."""
        printed = self.stdout.read()
        self.wait()
        return printed, self._errors.read_text(encoding="utf-8")
