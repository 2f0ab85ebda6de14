"""The tracker of a stage: runs that it logs to without waiting, and the store where it has to wait."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from darkroom.config.settings import Tracking
from darkroom.tracking.database import check_database, unusable
from darkroom.tracking.runs import Run, begin, origin
from darkroom.tracking.spool import Operation
from darkroom.tracking.system_metrics import SystemMonitor
from darkroom.tracking.tracking_uri import check_uri, need_store, shown, tracking_uri
from darkroom.tracking.writer import Writer
from darkroom.utils.console import messages, warn
from darkroom.utils.signals import answered
from darkroom.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from darkroom.tracking.store import Store

# How long the end of a stage waits for a store that does not respond.
PATIENCE_SECONDS = 30.0
# After a signal to terminate: less than the 30 seconds after which most systems kill a process.
TERMINATED_PATIENCE_SECONDS = 10.0
# After Ctrl-C, as somebody waits at the terminal.
INTERRUPTED_PATIENCE_SECONDS = 2.0
INTERRUPTED = "interrupted"


class Tracker:
    """The runs of one stage, as a context.

    What they log goes to a spool, and from there to the store of MLFLOW_TRACKING_URI as soon as it responds. The end
    of the block waits for the rest, up to a limit. Then a warning says that it stays in the spool; the next command
    that uses the store sends it.

    Raises TrackingError if the tracking URI is invalid or an SQLite file cannot be used. If the store refuses the
    connection, the next call raises it.
    """

    def __init__(self, settings: Tracking, spools: Path) -> None:
        self._address = check_store(settings)
        self._writer = Writer(self._address, settings.experiment, spools)
        self._monitor: SystemMonitor | None = None
        self._seconds = 0.0
        self._has_sent = False
        self._trouble = ""
        self._answered = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_interrupted = isinstance(problem, KeyboardInterrupt)
        is_terminated = problem is not None and not isinstance(problem, Exception)
        with self._answered:
            if self._has_sent and is_interrupted:
                if not self._writer.wait(INTERRUPTED_PATIENCE_SECONDS, whatever=True):
                    self._trouble = self._writer.trouble or INTERRUPTED
            elif self._has_sent:
                self._settle(TERMINATED_PATIENCE_SECONDS if is_terminated else PATIENCE_SECONDS)
            self._close(problem)

    def _close(self, problem: BaseException | None) -> None:
        refusal = self._writer.refusal
        self._writer.close(keep=bool(self._trouble or refusal))
        if refusal:
            if problem is None:
                raise refusal
        elif self._trouble:
            kept = f"is kept in {self._writer.directory}, and the next command that uses the store"
            if self._trouble == INTERRUPTED:
                # Usual, and no fault of the store. There may be nothing to register yet.
                messages.print(f"interrupted; what the MLflow store does not have yet {kept} (`dvc repro`) sends it")
                return
            warn(
                f"MLflow store {shown(self._address)} does not answer ({self._trouble}); unsent data {kept}, such as "
                "`darkroom register`, sends it"
            )

    @property
    def seconds(self) -> float:
        """The cost of tracking so far: seconds that the stage waited for it, and CPU seconds of its threads."""
        monitoring = self._monitor.cpu_seconds if self._monitor else 0.0
        return self._seconds + self._writer.cpu_seconds + monitoring

    def start(self, name: str, kind: str, *, key: str | None = None, parent: str | None = None) -> Run:
        """Start a run, or resume it; see ``begin``."""
        if not self._has_sent:
            self._answered.enter_context(answered("ending the run"))
        return begin(self._send, name, kind, self._origin, key=key, parent=parent)

    @contextmanager
    def monitored(self, run: Run) -> Iterator[None]:
        """Log to ``run`` how much of this machine is used, until the block ends; see ``SystemMonitor``."""
        # Not by the run: only the main thread may hold back an interruption.
        self._monitor = SystemMonitor(
            lambda points: self._writer.append({"do": "metrics", "run": run.key, "points": points})
        )
        with self._monitor:
            yield

    @cached_property
    def _origin(self) -> dict[str, str]:
        """The origin of the stage, cached: calling git takes longer than a small trial."""
        return origin()

    def if_it_answers(self, action: Callable[["Store"], object]) -> None:
        """Do work that needs the store, after all earlier operations; skip it if the store does not respond."""
        self._settle(PATIENCE_SECONDS)
        self._check()
        if self._trouble:
            return
        from darkroom.tracking.store import does_not_answer, reason

        assert self._writer.store
        try:
            action(self._writer.store)
        except Exception as problem:
            if not does_not_answer(problem):
                raise
            self._trouble = reason(problem)

    def store(self) -> "Store":
        """The store, after all earlier operations were sent. Raises TrackingError if it does not respond."""
        sent = -1
        while not self._writer.wait(PATIENCE_SECONDS):
            self._check()
            if self._writer.trouble or sent == self._writer.sent:
                raise unusable(self._address, self._writer.trouble or "no answer")
            sent = self._writer.sent  # there is much to send, and it is being sent
        assert self._writer.store
        return self._writer.store

    def finish_import(self) -> None:
        """Wait until the thread has imported MLflow.

        Two threads that import big packages at once may meet in modules that import each other, and find them half
        made: whoever is about to import one calls this first.
        """
        self._writer.finish_import()

    def _send(self, operation: Operation) -> None:
        began = time.perf_counter()
        self._check()
        self._has_sent = True
        self._writer.append(operation)
        self._seconds += time.perf_counter() - began

    def _check(self) -> None:
        if self._writer.refusal:
            raise self._writer.refusal

    def _settle(self, patience: float) -> None:
        """Wait until everything is sent. After one timeout, later calls do not wait again."""
        if not self._trouble and not self._writer.wait(patience):
            self._trouble = self._writer.trouble or "no answer"


def check_store(settings: Tracking) -> str:
    """The tracking URI of the store, to be called before work begins that is to be logged there: it takes no time.

    Raises TrackingError if the URI is invalid or an SQLite file cannot be used.
    """
    address = tracking_uri()
    check_uri(address)
    check_database(address, settings.experiment)
    return address


def connect(settings: Tracking, spools: Path) -> "Store":
    """Connect to MLFLOW_TRACKING_URI, else to mlflow.db in the project's root; make the experiment if needed.

    What earlier commands could not bring to this store is brought, and runs that a killed process of this machine has
    left behind are ended. Raises TrackingError if the store cannot be used.
    """
    with Tracker(settings, spools) as tracker:
        return tracker.store()


def registry_client(workspace: Workspace) -> "MlflowClient":
    """A client of the same store for work without an experiment: it creates nothing and sends nothing.

    Raises TrackingError if there is no store, or it cannot be used.
    """
    need_store(workspace)
    address = tracking_uri()
    check_uri(address)
    check_database(address)
    from darkroom.tracking.store import explained, open_client

    try:
        client = open_client(address)
        client.search_registered_models(max_results=1)
    except Exception as problem:
        raise explained(problem, address) from problem
    return client
