"""Ctrl-C and termination wait for what must not be torn apart, and for nothing else."""

import os
import signal

import pytest

from darkroom import interruption
from darkroom.interruption import held_back


@pytest.fixture(autouse=True)
def _own_handlers():
    before = [signal.getsignal(number) for number in interruption.SIGNALS]
    interruption.install()
    yield
    for number, handler in zip(interruption.SIGNALS, before, strict=True):
        signal.signal(number, handler)


def interrupt(number):
    os.kill(os.getpid(), number)


def nested(number, reached):
    with held_back():
        with held_back():
            interrupt(number)
            reached.append("inner")
        reached.append("outer")
    reached.append("behind")


@held_back()
def fail_while_interrupted():
    interrupt(signal.SIGINT)
    raise ValueError("the block's own")


def test_ctrl_c_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt):
        interrupt(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_termination_exits_with_the_shells_code_for_it(number):
    with pytest.raises(SystemExit) as ended:
        interrupt(number)
    assert ended.value.code == 128 + number


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_an_interruption_waits_for_the_end_of_the_outermost_block(number):
    reached = []
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        nested(number, reached)
    assert reached == ["inner", "outer"]


def test_a_block_that_fails_lets_the_interruption_through_once():
    with pytest.raises(KeyboardInterrupt):
        fail_while_interrupted()
    with held_back():
        pass  # nothing is left waiting


def test_a_function_can_be_held_together():
    @held_back()
    def work():
        interrupt(signal.SIGINT)
        done.append(True)

    done = []
    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [True]
