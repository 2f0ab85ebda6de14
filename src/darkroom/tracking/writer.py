"""The thread that sends spooled operations to the store, so that nothing else waits for it."""

import threading
import time
from collections.abc import Collection, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.tracking.spool import Operation, Spool
from darkroom.tracking.tracking_uri import is_local, portable, shown
from darkroom.utils.console import warn

if TYPE_CHECKING:
    from darkroom.tracking.store import Store
    from darkroom.tracking.whole_runs import WholeRun

# An operation, and the bytes of the spool that are sent after it.
Pending = tuple[Operation, int]

# Seconds for which the thread leaves the machine to the stage: importing MLflow, which takes one or two, is then at
# most a thirtieth of the work that it is done beside. A shorter run is sent to the store when it has ended.
QUIET_SECONDS = 60.0
# Between two sends to the store, unless somebody waits: operations of this time are sent together.
GATHER_SECONDS = 5.0
# A child run is sent as a whole if it ends within so many seconds.
WHOLE_SECONDS = 10.0
# Runs that a database writes in one transaction, during which nobody else can.
RUNS_A_BATCH = 200
# Between two attempts at a store that does not answer: at first, and at most.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


class Writer:
    """Sends to the store the operations that other processes left behind, then those of this process, in that order.

    Until the store has responded for the first time, a refusal (``refusal``) is an error: the settings or the
    experiment are wrong. Later it is a ``trouble`` like any other: unsent operations stay in the spool.
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
        # What was read of the spool and not sent, up to so many bytes.
        self._held: list[Pending] = []
        self._read = 0
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
            if self._idle:
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
        """Have the thread import MLflow now, and wait until it has."""
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
            pending = self._held + (spool.pending(self._read) if spool else [])
            if not pending:
                self._idle, self.trouble, self._hurried = True, "", False
                self._state.notify_all()
                self._state.wait_for(lambda: not self._idle or self._closing)
            is_hurried = self._hurried
        if spool and pending:
            read = max(self._read, pending[-1][1])  # what is held may stand before what was sent
            # Should the store fail midway, all that is not marked as sent is read again.
            self._held, self._read = [], 0
            held = set() if is_hurried else unfinished(pending, time.time() - WHOLE_SECONDS)
            self._send(spool, pending, self.store, held)
            self._held, self._read = [each for each in pending if each[0]["run"] in held], read
            if not is_hurried:
                self._rest(GATHER_SECONDS)

    def _send(self, spool: Spool, pending: list[Pending], store: "Store", held: Collection[str] = ()) -> None:
        """Send the operations, but those of the runs that are ``held``."""
        from darkroom.tracking.whole_runs import whole_runs

        now = [each for each in pending if each[0]["run"] not in held]
        # What stands before the first that is held is all sent in the end; 0 if that is the first of all.
        sent = [position for _, position in takewhile(lambda each: each[0]["run"] not in held, pending)]
        limit = sent[-1] if sent else 0
        runs = whole_runs(operation for operation, _ in now)
        keys = {run.key for run in runs}
        first = next((position for operation, position in now if operation["run"] in keys), 0)
        others = merged([each for each in now if each[0]["run"] not in keys])
        for operation, position in others:
            if self._closing:
                return
            if runs and position > first:
                self._add(runs, store)
                runs = []
            store.apply(operation)
            self._sent_to(spool, min(position, limit))
        self._add(runs, store)
        self._sent_to(spool, limit)

    def _add(self, runs: Sequence["WholeRun"], store: "Store") -> None:
        for start in range(0, len(runs), RUNS_A_BATCH):
            if self._closing:
                return
            store.add(runs[start : start + RUNS_A_BATCH])
            self.sent += 1
            self._measure()

    def _sent_to(self, spool: Spool, position: int) -> None:
        if self._closing:
            return
        if position:
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


def unfinished(pending: list[Pending], since: float) -> set[str]:
    """The runs below another one that were begun later than ``since``, in seconds, and have not ended."""
    begun = {
        operation["run"]
        for operation, _ in pending
        if operation["do"] == "begin" and operation["parent"] and operation["time"] > 1000 * since
    }
    return begun - {operation["run"] for operation, _ in pending if operation["do"] == "end"}


def merged(pending: list[Pending]) -> list[Pending]:
    """Merge consecutive metrics of a run into one operation: a slow store then gets fewer requests."""
    together: list[Pending] = []
    for operation, position in pending:
        last = together[-1][0] if together else {}
        if operation["do"] == last.get("do") == "metrics" and operation["run"] == last["run"]:
            together[-1] = (last | {"points": last["points"] + operation["points"]}, position)
        else:
            together.append((operation, position))
    return together
