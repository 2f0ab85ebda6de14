"""Start the processes of a training on this machine, with torchrun's elastic agent."""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from darkroom.errors import DarkroomError, LostProcessError
from darkroom.training.device import cores
from darkroom.training.failures import first_cause, lost_process, portable
from darkroom.utils import signals
from darkroom.utils.memory import free_bytes
from darkroom.utils.scratch import scratch_directory
from darkroom.utils.units import GIBIBYTE

START_METHOD = "spawn"
# How long a process may take to end after a signal. It may be blocked in a call to a process that has already ended.
PATIENCE_SECONDS = 5.0


def launch(count: int, work: Callable[..., None], *given: Any) -> None:
    """Run ``work`` with ``given`` in ``count`` processes, with the environment that ``joined`` reads.

    If one of them fails or is killed, the others are ended. Raises what it has raised, and LostProcessError if it was
    killed.
    """
    with scratch_directory() as logs:
        _launch(count, work, given, logs)


def _launch(count: int, work: Callable[..., None], given: tuple[Any, ...], logs: Path) -> None:
    problems: SimpleQueue[tuple[int, Exception]] = multiprocessing.get_context(START_METHOD).SimpleQueue()
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.1,
        start_method=START_METHOD,
        # One that nobody sends: this process' own handlers stay, and end the agent, which ends the others.
        signals_to_handle="SIGQUIT",
        shutdown_timeout=int(PATIENCE_SECONDS) + 1,
        # Otherwise the agent leaves an empty directory behind in the system's temporary one.
        logs_specs=DefaultLogsSpecs(log_dir=str(logs)),
    )
    os.environ.setdefault("GLOO_SOCKET_IFNAME", next(name for _, name in socket.if_nameindex() if name[:2] == "lo"))
    # Of a failure the agent logs much. Whoever is to be told is told once.
    logging.disable(logging.CRITICAL)
    try:
        elastic_launch(settings, _be_member)(problems, count, work, given)
    except ChildFailedError as failed:
        raise _explained(failed, problems, count) from None
    finally:
        logging.disable(logging.NOTSET)


def _explained(failed: ChildFailedError, problems: "SimpleQueue[tuple[int, Exception]]", count: int) -> Exception:
    """What failed first: that other processes were lost follows from it."""
    raised = {}
    while not problems.empty():
        rank, problem = problems.get()
        raised[rank] = problem
    if (cause := first_cause(raised)) is not None:
        return cause
    rank, failure = failed.get_first_failure()
    how = f"by {signal.Signals(-failure.exitcode).name}" if failure.exitcode < 0 else f"with code {failure.exitcode}"
    memory = f"perhaps because memory ran out (without it {free_bytes() / GIBIBYTE:.1f} GiB is free)"
    return lost_process(rank, count, f"{how}, {memory}")


def _be_member(
    problems: "SimpleQueue[tuple[int, Exception]]", count: int, work: Callable[..., None], given: tuple[Any, ...]
) -> None:
    """Do the work in a process that the agent has started."""
    signals.install()
    for number in (signal.SIGINT, signal.SIGHUP):  # which reach every process of a terminal, and the first decides
        signal.signal(number, signal.SIG_IGN)
    _end_when_told()
    torch.set_num_threads(max(1, len(cores()) // count))
    with suppress(SystemExit):  # by which a signal ends this process
        try:
            work(*given)
            return
        except Exception as problem:
            problems.put((int(os.environ["RANK"]), portable(problem)))
            if isinstance(problem, LostProcessError):
                # The agent is to see which process was lost, and not this one that ends because of it.
                time.sleep(PATIENCE_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    # Python's own end would wait for libraries, and nothing could be done about it any more.
    os._exit(DarkroomError.exit_code)


def _end_when_told() -> None:
    """End this process soon after a signal, or after the process that started it, even if a library is waiting."""
    told, telling = os.pipe()
    os.set_blocking(telling, False)
    signal.set_wakeup_fd(telling)
    parent = multiprocessing.parent_process()
    assert parent, "the agent has started this process"

    def watch() -> None:
        if parent.sentinel in wait([told, parent.sentinel]):
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE_SECONDS)
        os._exit(DarkroomError.exit_code)

    threading.Thread(target=watch, daemon=True).start()
