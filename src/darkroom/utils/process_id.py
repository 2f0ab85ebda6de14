"""Names for processes that outlive them: who began something, and whether it has ended since."""

import os
import socket
import threading
from multiprocessing import parent_process

import psutil


def this_process() -> str:
    """Host, process id and start time: together they name a process for good, an id alone is used again."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def is_of_this_machine(process: str) -> bool:
    """Whether ``this_process`` could have named a process so here."""
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
    """Have this process, which another one's multiprocessing has spawned, end when that one does, even by a kill."""
    parent = parent_process()
    assert parent, "a spawned process has one"

    def wait() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
