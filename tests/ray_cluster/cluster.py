"""The cluster that nodes.py is, as its tests use it."""

import subprocess
from pathlib import Path

import psutil

NODES = Path(__file__).with_name("nodes.py")


def command_of(process: psutil.Process) -> str:
    """How it was started, or, if Ray has named it, its name; nothing if it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


class Nodes:
    """The cluster, at ``address``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._answer()

    def lose_one(self) -> None:
        self._tell()

    def add_one(self) -> None:
        self._tell()

    def processes(self, name: str) -> list[psutil.Process]:
        """Those that run actors of a class of this ``name``."""
        found = psutil.Process(self._process.pid).children(recursive=True)
        return [each for each in found if command_of(each).startswith(f"ray::{name}")]

    def _tell(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the cluster has ended"
        return line.strip()
