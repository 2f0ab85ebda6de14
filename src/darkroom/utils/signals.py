"""Delay Ctrl-C and termination during work that must not be interrupted.

An exception in the middle of a transaction would leave the tracking store locked for the process itself, which still
has to end its run there.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STDERR = 2

_depth = 0
_waiting: int | None = None
# What Ctrl-C is answered with, and whether it has been.
_answer = ""
_is_answered = False


def install() -> None:
    """Make Ctrl-C raise KeyboardInterrupt, and termination SystemExit, except while they are held back."""
    for number in SIGNALS:
        signal.signal(number, _handle)


@contextmanager
def held_back() -> Iterator[None]:
    """Delay an interruption until the block has ended. Blocks may be nested."""
    global _depth, _waiting
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0 and _waiting is not None:
            number, _waiting = _waiting, None
            _interrupt(number)


@contextmanager
def answered(what: str) -> Iterator[None]:
    """At Ctrl-C in the block, print at once that ``what`` is being finished; a second Ctrl-C abandons it.

    The next process finds the unfinished work, as after a kill.
    """
    global _answer, _is_answered
    _answer, _is_answered = what, False
    try:
        yield
    finally:
        _answer = ""


def _handle(number: int, frame: FrameType | None) -> None:
    global _waiting, _is_answered
    if number == signal.SIGINT and _answer:
        if _is_answered:
            os._exit(128 + number)
        _is_answered = True
        # Not by print: it may be what was interrupted.
        os.write(STDERR, f"\n{_answer}; press Ctrl-C again to stop at once\n".encode())
    if _depth:
        _waiting = number
    else:
        _interrupt(number)


def _interrupt(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
