"""A process is known by its name after it has ended."""

import os
import subprocess
import sys

import psutil
import pytest

from darkroom.utils.process_id import is_gone, is_of_this_machine, this_process

NAMING = "from darkroom.utils.process_id import this_process; print(this_process(), flush=True); input()"


@pytest.fixture
def other():
    """Another process, and how it names itself."""
    with subprocess.Popen(
        [sys.executable, "-c", NAMING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as it:
        yield it, it.stdout.readline().strip()
        it.kill()


@pytest.mark.slow
def test_a_process_is_gone_when_it_has_ended(other):
    process, name = other
    assert not is_gone(name)

    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert is_gone(name)

    process.wait()
    assert is_gone(name)


def test_this_process_is_not_gone():
    assert is_of_this_machine(this_process())
    assert not is_gone(this_process())


def test_a_process_that_was_given_the_number_of_another_is_not_the_other():
    host, number, start = this_process().rsplit(":", 2)

    assert is_gone(f"{host}:{number}:{int(start) - 1}")


@pytest.mark.parametrize("name", ["elsewhere:1:2", "", "no name"])
def test_nothing_is_known_of_processes_of_other_machines(name):
    assert not is_of_this_machine(name)
    assert not is_gone(name)
