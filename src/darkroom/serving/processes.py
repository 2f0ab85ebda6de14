"""The server in several processes, which uvicorn's supervisor starts, watches and replaces.

All accept connections from one socket: when one of them is killed, the others take what it had not accepted. With a
socket for each (SO_REUSEPORT) those connections would wait for its successor, or be lost.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from pathlib import Path
from socket import socket
from threading import Thread
from time import monotonic
from typing import cast

from prometheus_client.multiprocess import mark_process_dead
from uvicorn import Config as HttpConfig
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from darkroom.config import Config
from darkroom.errors import DarkroomError, ServingError, counted
from darkroom.serving.http_options import SHUTDOWN_SECONDS, http_options
from darkroom.serving.listening import address_of
from darkroom.serving.log import log_to_stderr
from darkroom.utils.console import messages, warn
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace

log = logging.getLogger(__name__)
# A process that does not answer the supervisor for so long is killed; libraries that are imported keep it from that.
HUNG_SECONDS = 60
# Between two looks at a process that starts.
LOOK_SECONDS = 0.1
# In the environment of the processes, where prometheus_client reads it as it is imported.
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
ENDING = {signal.SIGINT, signal.SIGTERM}


def serve(config: Config, workspace: Workspace, listening: socket, host: str, key: str | None) -> None:
    """Answer on ``listening`` in ``serve.processes`` processes until this one is interrupted or terminated.

    Raises ServingError where several processes cannot share a port, and SystemExit if the first one has said why it
    cannot start.
    """
    number, cores = config.serve.processes, os.cpu_count() or 1
    if sys.platform == "win32":
        raise ServingError(f"serve.processes: {number} processes share a port on Linux and macOS only; set it to 1")
    if number > cores:
        warn(f"serve.processes: {number} processes on {counted(cores, 'core')}; more than cores answer no faster")
    log_to_stderr()
    address = address_of(listening, host)

    def announce() -> None:
        messages.print(
            f"{config.registered_model} in {number} processes on {address}, until Ctrl-C; "
            f"the API's page is {address}/docs"
        )

    with scratch_directory() as shared:
        os.environ[METRICS_VARIABLE] = str(shared)
        Supervisor(WorkerConfig(config, workspace, host, key, shared), listening, announce).run()


class WorkerConfig(HttpConfig):
    """What a process is given, in which uvicorn calls ``load``.

    It is unpickled before the process can answer the supervisor, so that this module imports neither torch nor MLflow.
    ``is_first`` is set for the process whose failure ends the server.
    """

    def __init__(self, config: Config, workspace: Workspace, host: str, key: str | None, shared: Path) -> None:
        super().__init__(
            "",  # made by `load`
            workers=config.serve.processes,
            timeout_worker_healthcheck=HUNG_SECONDS,
            **http_options(config.serve),
        )
        self.project = config
        self.workspace = workspace
        self.served_as = host
        self.key = key
        self.shared = shared
        self.is_first = True

    def load(self) -> None:
        """Load the champion. A signal meanwhile ends the process at once."""
        Thread(target=_end_with_parent, daemon=True).start()
        with _killed_by_signals():
            from darkroom.serving.worker import begin

            self.app, self.http = begin(self)
        super().load()


class Supervisor(Multiprocess):
    """uvicorn's, which starts one process before the others and ends with all of them."""

    def __init__(self, config: WorkerConfig, listening: socket, announce: Callable[[], None]) -> None:
        super().__init__(config, [listening])
        self._worker = config
        self._announce = announce

    def init_processes(self) -> None:
        """Start a process, and the others once it answers: what it cannot do they cannot do either."""
        try:
            self._start_all()
        except BaseException:
            self.terminate_all()
            self.join_all()
            raise

    def _start_all(self) -> None:
        first = self._start()
        while not first.is_ready(timeout=1):
            self.handle_signals()
            if self.should_exit.wait(LOOK_SECONDS):
                return
            if not first.process.is_alive():
                if first.exitcode == STARTUP_FAILURE:
                    sys.exit(DarkroomError.exit_code)
                raise ServingError(f"the first process ended before it could answer ({_how(first)})")
        self._worker.is_first = False
        self._announce()
        while len(self.processes) < self.processes_num:
            self._start()

    def keep_subprocess_alive(self) -> None:
        """Replace processes that have ended."""
        before = list(self.processes)
        with _signals_blocked():
            super().keep_subprocess_alive()
        self._close_other_ends()
        for each in before:
            if each not in self.processes:
                mark_process_dead(each.pid, str(self._worker.shared))
                log.warning("process %d ended (%s); another one takes its place", each.pid, _how(each))

    def handle_hup(self) -> None:
        """End, as one process does when its terminal is closed."""
        self.should_exit.set()

    def terminate_all(self) -> None:
        for listening in self.sockets:
            listening.close()  # nobody would answer what it takes
        super().terminate_all()

    def join_all(self) -> None:
        """Wait for requests that are being answered, and for versions that are being loaded."""
        deadline = monotonic() + 2 * SHUTDOWN_SECONDS
        for each in self.processes:
            each.process.join(max(0.0, deadline - monotonic()))
            each.process.kill()
            each.process.join()

    def _start(self) -> Process:
        process = Process(self.config, self.sockets)
        with _signals_blocked():
            process.start()
        self.processes.append(process)
        self._close_other_ends()
        return process

    def _close_other_ends(self) -> None:
        """Let the pipe to each process end with it: uvicorn would wait a minute for an answer of one that is killed."""
        for each in self.processes:
            each.child_conn.close()


def _how(ended: Process) -> str:
    code = cast(int, ended.exitcode)
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """A process that is started inherits this: Ctrl-C does not interrupt its imports with a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _killed_by_signals() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in ENDING}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with_parent() -> None:
    """End this process, as Ctrl-C does, when the supervisor was killed: it would keep the port."""
    supervisor = parent_process()
    assert supervisor
    supervisor.join()
    os.kill(os.getpid(), signal.SIGTERM)
