"""Names for processes that outlive them: who began something, and whether it has ended since."""

import os
import socket

import psutil


def this_process() -> str:
    """Host, process id and start time: together they name a process for good, an id alone is used again."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def is_gone(process: str) -> bool:
    """Whether a process of this machine, as ``this_process`` named it, has ended."""
    host, _, rest = process.rpartition(":")[0].rpartition(":")
    if host != socket.gethostname():
        return False  # another machine's, or not ours: nothing is known about it
    try:
        return f"{psutil.Process(int(rest)).create_time():.0f}" != process.rpartition(":")[2]
    except psutil.NoSuchProcess:
        return True
