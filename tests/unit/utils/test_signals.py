"""Ctrl-C and termination wait for what must not be torn apart, and for nothing else."""

import os
import signal

import pytest

from darkroom.utils import signals
from darkroom.utils.signals import answered, held_back


@pytest.fixture(autouse=True)
def _own_handlers():
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    signals.install()
    yield
    for number, handler in zip(signals.SIGNALS, before, strict=True):
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


@pytest.mark.parametrize("number", signals.SIGNALS)
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


def test_ctrl_c_is_answered_at_once_even_while_it_is_held_back(capfd):
    said = []

    @answered("ending the run")
    @held_back()
    def work():
        interrupt(signal.SIGINT)
        said.append(capfd.readouterr().err)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert said == ["\nending the run; press Ctrl-C again to stop at once\n"]


def test_a_second_ctrl_c_leaves_at_once(monkeypatch):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)

    @answered("ending the run")
    @held_back()
    def work():
        interrupt(signal.SIGINT)
        assert left == []
        interrupt(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert left == [128 + signal.SIGINT]


def test_ctrl_c_elsewhere_and_termination_are_not_answered(capfd):
    with answered("ending the run"):
        pass
    with pytest.raises(KeyboardInterrupt):
        interrupt(signal.SIGINT)
    with pytest.raises(SystemExit), answered("ending the run"):
        interrupt(signal.SIGTERM)
    assert capfd.readouterr().err == ""


def test_each_run_is_answered_for_anew(monkeypatch):
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("it was the first"))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), answered("ending the run"):
            interrupt(signal.SIGINT)
