"""Worker processes: they do what one process does, and end with the one that started them."""

import multiprocessing
import signal
import subprocess
import sys

import psutil
import pytest

from darkroom.datasets.decoding import processes

# A parent whose worker is idle, and one whose worker is busy.
PARENT = """
from time import sleep
from darkroom.datasets.decoding import processes
with processes(1) as spread:
    print(*spread(abs, [1]), flush=True)
    list(spread(sleep, [{seconds}]))
    sleep(600)
"""


@pytest.mark.parametrize("count", [0, 2])
def test_results_come_in_the_order_of_the_work(count):
    with processes(count) as spread:
        assert list(spread(divmod, range(50), [7] * 50)) == [divmod(number, 7) for number in range(50)]


def test_ctrl_c_is_left_to_the_parent():
    with processes(1) as spread:
        assert list(spread(signal.getsignal, [signal.SIGINT])) == [signal.SIG_IGN]


def interrupted(results):
    next(results)
    raise KeyboardInterrupt


def test_an_interruption_ends_the_workers():
    before = set(multiprocessing.active_children())
    with pytest.raises(KeyboardInterrupt), processes(2) as spread:
        interrupted(spread(abs, range(1000)))
    assert set(multiprocessing.active_children()) == before


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 600])
def test_the_workers_end_when_their_parent_is_killed(seconds):
    with subprocess.Popen([sys.executable, "-c", PARENT.format(seconds=seconds)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"1\n"
        family = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()

    assert family
    assert psutil.wait_procs(family, timeout=60)[1] == []
