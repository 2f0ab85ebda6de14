"""The thread that brings what is spooled to the store, so that nothing else waits for it."""

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.tracking.spool import Operation, Spool
from darkroom.tracking.tracking_uri import is_local, portable, shown
from darkroom.utils.console import warn

if TYPE_CHECKING:
    from darkroom.tracking.store import Store

# Seconds for which the thread leaves the machine to the stage: importing MLflow, which takes one or two, is then at
# most a thirtieth of the work that it is done beside. What is shorter is told to the store when it has ended.
QUIET_SECONDS = 60.0
# Between two attempts at a store that does not answer: at first, and at most.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


class Writer:
    """Brings to the store what other processes have left behind, then what this one spools, in that order.

    Until the store has answered for the first time, a refusal (``refusal``) is an error: the settings are wrong, or
    the experiment is. Later on it is a ``trouble`` like any other: what could not be sent stays in the spool.
    """

    def __init__(self, address: str, experiment: str, directory: Path) -> None:
        self.address = address
        self.experiment = experiment
        self.directory = directory
        self.store: Store | None = None
        self.refusal: Exception | None = None
        self.trouble = ""
        self.cpu_seconds = 0.0
        self.sent = 0  # operations
        self.imported = threading.Event()
        self._spool: Spool | None = None
        self._state = threading.Condition()
        # Guarded by _state. _idle: nothing is left to send. _attempts: how many have failed.
        self._idle = False
        self._attempts = 0
        self._hurried = False
        self._given_up = False
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    # --- the side of the stage ---

    def append(self, operation: Operation) -> None:
        """Spool an operation. Takes the time of one write to a file."""
        with self._state:
            if self._spool is None:
                self._spool = Spool.create(self.directory, portable(self.address), self.experiment)
            self._spool.append(operation)
            self._idle = False
            self._state.notify_all()

    def wait(self, seconds: float, *, whatever: bool = False) -> bool:
        """Wait until everything is sent; False if it is not after ``seconds``, or as soon as an attempt fails.

        What this machine does itself, importing and writing to a file, is waited for however long it takes, unless
        ``seconds`` count for ``whatever`` it is.
        """
        deadline = time.monotonic() + seconds if whatever else None
        self._hurry()
        if not self.imported.wait(seconds if whatever else None):
            return False
        with self._state:
            left = None if is_local(self.address) else seconds
            left = left if deadline is None else max(0.0, deadline - time.monotonic())
            seen, self._hurried = self._attempts, True
            self._state.notify_all()
            self._state.wait_for(lambda: self._idle or self.refusal or self._given_up or self._attempts > seen, left)
            return self._idle

    def finish_import(self) -> None:
        """Wait until the thread has imported MLflow, which it now does at once."""
        self._hurry()
        self.imported.wait()

    def _hurry(self) -> None:
        with self._state:
            self._hurried = True
            self._state.notify_all()

    def close(self, *, keep: bool) -> None:
        """End the thread, unless it is waiting for the store just now; remove the spool or leave it to the next."""
        with self._state:
            self._closing = True
            self._state.notify_all()
            if self._spool is not None and keep:
                self._spool.close()
            elif self._spool is not None:
                self._spool.remove()
            is_done = self._idle or self._given_up or self.refusal
        if is_done:
            self._thread.join()

    # --- the side of the thread ---

    def _work(self) -> None:
        try:
            with self._state:
                self._state.wait_for(lambda: self._hurried or self._closing, QUIET_SECONDS)
                if self._closing:
                    return
            # Here and not above: it imports MLflow, for which the stage does not wait.
            from darkroom.tracking import store

            self.imported.set()
            self._measure()
            pause = FIRST_PAUSE_SECONDS
            while not self._closing:
                try:
                    if self.store is None:
                        self.store = self._connect()
                    self._send_own()
                    pause = FIRST_PAUSE_SECONDS
                except Exception as problem:
                    may_answer = store.does_not_answer(problem) and (
                        not is_local(self.address) or store.is_locked(problem)
                    )
                    if self.store is None and not may_answer:
                        raise store.explained(problem, self.address) from problem
                    self._note(store.reason(problem), gives_up=not store.does_not_answer(problem))
                    if self._given_up:
                        return
                    self._rest(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        except Exception as problem:
            with self._state:
                self.refusal = problem
                self._state.notify_all()
        finally:
            self.imported.set()

    def _connect(self) -> "Store":
        from darkroom.tracking.store import Store, does_not_answer, reason

        found = Store.connect(self.address, self.experiment)
        # A spool may note the address in either form.
        for spool in Spool.left_behind(self.directory, portable(self.address), shown(self.address)):
            try:
                is_same = spool.experiment == self.experiment
                store = found if is_same else Store.connect(self.address, spool.experiment)
                self._send(spool, spool.pending(), store)
                if self._closing:
                    break
                spool.remove()
            except Exception as problem:
                if does_not_answer(problem):
                    raise
                # Whatever it is, it must not keep what comes later from being sent.
                aside = spool.set_aside()
                warn(f"MLflow store {spool.store} rejects the data kept for it ({reason(problem)}); moved to {aside}")
        found.end_abandoned()
        return found

    def _send_own(self) -> None:
        """Send what there is, or wait until there is something."""
        assert self.store
        with self._state:
            spool = self._spool
            pending = spool.pending() if spool else []
            if not pending:
                self._idle, self.trouble, self._hurried = True, "", False
                self._state.notify_all()
                self._state.wait_for(lambda: not self._idle or self._closing)
        if spool and pending:
            self._send(spool, pending, self.store)

    def _send(self, spool: Spool, pending: list[tuple[Operation, int]], store: "Store") -> None:
        for operation, position in merged(pending):
            if self._closing:
                return
            store.apply(operation)
            spool.mark_sent(position)
            self.sent += 1
            self._measure()

    def _note(self, trouble: str, *, gives_up: bool) -> None:
        with self._state:
            self.trouble = trouble
            self._attempts += 1
            self._hurried = False
            self._given_up = gives_up
            self._state.notify_all()

    def _rest(self, seconds: float) -> None:
        with self._state:
            self._state.wait_for(lambda: self._hurried or self._closing, seconds)

    def _measure(self) -> None:
        self.cpu_seconds = time.thread_time()


def merged(pending: list[tuple[Operation, int]]) -> list[tuple[Operation, int]]:
    """The operations with figures of one run that follow each other as one: a slow store is asked less often."""
    together: list[tuple[Operation, int]] = []
    for operation, position in pending:
        last = together[-1][0] if together else {}
        if operation["do"] == last.get("do") == "metrics" and operation["run"] == last["run"]:
            together[-1] = (last | {"points": last["points"] + operation["points"]}, position)
        else:
            together.append((operation, position))
    return together
