"""The HTTP server: the socket, uvicorn within its limits, and the log."""

import asyncio
import gc
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from darkroom.errors import ServingError
from darkroom.serving.connections import Connections
from darkroom.serving.service import Service

# Connections that may wait to be accepted.
BACKLOG = 2048
# Seconds that requests, and then a version that is being loaded, may take to end after the server was told to.
SHUTDOWN_SECONDS = 10


def make_server(app: ASGIApp, service: Service) -> uvicorn.Server:
    """What speaks HTTP for ``app``, within the bounds of the service's settings."""
    connections = Connections(service.settings, service.metrics)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=cast("type[asyncio.Protocol]", connections.make),
            ws="none",
            backlog=BACKLOG,
            log_config=None,
            access_log=False,
            proxy_headers=False,  # the application reads them
            timeout_keep_alive=service.settings.keep_alive_seconds,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
    )


@contextmanager
def libraries_kept() -> Iterator[None]:
    """Keep the garbage collector from what the libraries have made: looking through it takes a part of a second."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def listen(host: str, port: int) -> socket.socket:
    """Open the socket before anything is loaded, so that a wrong address is reported at once."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as problem:
        # Python adds the address to the reason; a name that is not found has a reason of its own.
        why = os.strerror(problem.errno) if problem.errno and problem.errno > 0 else str(problem.strerror)
        raise ServingError(f"{host}:{port}: {why.lower()}; choose another address with --host and --port") from None


class LineFormatter(logging.Formatter):
    """Writes the time of a second once, for all of its lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s")
        self._second = -1
        self._written = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - the library's
        second = int(record.created)
        if second != self._second:
            self._second, self._written = second, time.strftime(self.default_time_format, self.converter(second))
        return f"{self._written},{int(record.msecs):03d}"


def log_to_stderr() -> None:
    # Python's "Logging HOWTO", section "Optimization": what no line of ours has is not looked up for each of them.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    for name in ("darkroom.serving", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if name == "darkroom.serving" else logging.WARNING)
        logger.propagate = False
