"""Unique names for processes: which process started something, and whether it has ended."""

import os
import socket
import threading
from multiprocessing import parent_process

import psutil


def this_process() -> str:
    """Host, process id and start time: together they are unique, while an id alone is reused."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def is_of_this_machine(process: str) -> bool:
    """Whether a name from ``this_process`` is of a process on this machine."""
    return process.rsplit(":", 2)[0] == socket.gethostname()


def is_gone(process: str) -> bool:
    """Whether a process of this machine, as ``this_process`` named it, has ended."""
    if not is_of_this_machine(process):
        return False  # another machine's, or not ours: nothing is known about it
    _, number, start = process.rsplit(":", 2)
    try:
        found = psutil.Process(int(number))
        # One that has ended keeps its number until its parent asks for it, which some never do.
        return f"{found.create_time():.0f}" != start or found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def end_with_parent() -> None:
    """End this process, which multiprocessing has spawned, when its parent ends, even by a kill."""
    parent = parent_process()
    assert parent, "a spawned process has one"

    def wait() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
