"""Ctrl-C and termination, held back while something is done that must not be torn apart.

An exception in the middle of a transaction would leave the tracking store locked against the very
process that is about to end its run in it.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_depth = 0
_waiting: int | None = None


def install() -> None:
    """Make Ctrl-C raise KeyboardInterrupt, and termination SystemExit, wherever they are not held back."""
    for number in SIGNALS:
        signal.signal(number, _handle)


@contextmanager
def held_back() -> Iterator[None]:
    """Let an interruption wait until the block has ended. Blocks may be nested."""
    global _depth, _waiting
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0 and _waiting is not None:
            number, _waiting = _waiting, None
            _interrupt(number)


def _handle(number: int, frame: FrameType | None) -> None:
    global _waiting
    if _depth:
        _waiting = number
    else:
        _interrupt(number)


def _interrupt(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
