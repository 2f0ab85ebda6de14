"""Bounds of the server's connections: their number, and the seconds and bytes that a request may take to arrive.

What uvicorn bounds by itself is the time between requests and the number of connections, beyond which it refuses the
next request of everyone, also of those who were there before.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Iterable
from http import HTTPStatus
from math import inf
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from darkroom.config.settings import Serve
from darkroom.serving.metrics import ServerMetrics
from darkroom.utils.units import KILOBYTE, MEGABYTE

if sys.platform != "win32":
    import resource

log = logging.getLogger(__name__)
# File descriptors that are left to everything else: the registry, files of forms, connections about to be refused.
KEPT_DESCRIPTORS = 64
# Requests of one connection that may be there before the first of them is answered.
MAX_PIPELINED = 16
# Between two looks at the deadlines.
SWEEP_SECONDS = 0.25
# That a client may take to read a refusal while its own bytes are thrown away, and to read the end of an answer.
LINGER_SECONDS = 2.0


class Connections:
    """All connections of a server. Called from its event loop alone."""

    def __init__(self, settings: Serve, metrics: ServerMetrics) -> None:
        self.settings = settings
        self.max_header = int(settings.max_header_kb * KILOBYTE)
        self.max_bytes = int(settings.max_bodies_mb * MEGABYTE)
        self.max_connections = max(1, min(settings.max_connections, _descriptors() - KEPT_DESCRIPTORS))
        self.bytes = 0
        self._telemetry = metrics
        self._open: dict[Connection, None] = {}
        # Those that have no whole request to be answered, the one that has waited longest first.
        self._waiting: dict[Connection, None] = {}
        self._of_address: dict[str, int] = {}
        self._is_swept = False

    def make(self, **arguments: Any) -> "Connection":
        """A connection, with the arguments that uvicorn gives its protocol."""
        return Connection(self, **arguments)

    def add(self, connection: "Connection") -> bool:
        """Count a new connection. False if there is no place for it, nor one that waits and could give its own."""
        same_address = self._of_address.get(connection.address, 0) >= self.settings.max_connections_per_address
        if same_address or len(self._open) >= self.max_connections:
            waiting: Iterable[Connection] = self._waiting
            if same_address:
                waiting = (each for each in waiting if each.address == connection.address)
            oldest = next(iter(waiting), None)
            if oldest is None:
                return False
            oldest.give_place()
        self._open[connection] = None
        self._waiting[connection] = None
        self._of_address[connection.address] = self._of_address.get(connection.address, 0) + 1
        if not self._is_swept:
            self._is_swept = True
            connection.loop.call_later(SWEEP_SECONDS, self._sweep, connection.loop)
        return True

    def remove(self, connection: "Connection") -> None:
        """Forget a connection, from now on or before it has ended."""
        if connection not in self._open:
            return
        del self._open[connection]
        self._waiting.pop(connection, None)
        self.release(connection)
        left = self._of_address.pop(connection.address) - 1
        if left:
            self._of_address[connection.address] = left

    def mark_idle(self, connection: "Connection") -> None:
        """Note that a connection has no request any more."""
        if connection in self._open:
            self._waiting[connection] = None

    def mark_complete(self, connection: "Connection") -> None:
        """Note that a whole request of a connection is there."""
        self._waiting.pop(connection, None)

    def count_bytes(self, connection: "Connection", count: int) -> None:
        """Count bytes of a body. If they are too many, the unfinished request with the most bytes is refused."""
        connection.held += count
        self.bytes += count
        while self.bytes > self.max_bytes and self._waiting:
            largest = max(self._waiting, key=lambda each: each.held)
            if not largest.held:
                return
            largest.refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many bytes of requests are in memory; try again")

    def release(self, connection: "Connection") -> None:
        """The bytes of a connection's requests are needed no more."""
        self.bytes -= connection.held
        connection.held = 0

    def note_refusal(self, status: HTTPStatus) -> None:
        self._telemetry.refused.labels(status.value).inc()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """One timer for all: a timer for each request would take longer than its headers."""
        now = loop.time()
        for connection in list(self._open):
            connection.look_at_clock(now)
        self._is_swept = bool(self._open)
        if self._is_swept:
            loop.call_later(SWEEP_SECONDS, self._sweep, loop)


class Connection(HttpToolsProtocol):
    """A connection with deadlines and bounds.

    Its ``deadline`` is for the header from its first byte, for the body from the end of the header, and for the next
    request from the last answer, whatever arrives meanwhile.
    """

    def __init__(self, connections: Connections, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.address = ""
        self.held = 0
        self.deadline = inf
        self._all = connections
        self._settings = connections.settings
        self._header_bytes = 0
        self._has_begun = self._is_refused = self._is_last = False
        self._stuck_since = inf
        # The request that is being answered or was answered last; ``cycle`` is the one that arrived last.
        self._answered: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self.deadline = self.loop.time() + self._settings.header_seconds
        if not self._all.add(self):
            self._respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; try again")
            self._is_refused = True
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._all.remove(self)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._header_bytes += len(data)
        super().data_received(data)
        # What no callback has taken: lines that do not end, and what stands between the chunks of a body.
        if self._header_bytes > self._all.max_header:
            self._refuse_header()

    def send_400_response(self, msg: str) -> None:
        self.refuse(HTTPStatus.BAD_REQUEST, "not a request in HTTP/1.1")

    # --- called by the parser ---

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_begun = True
        self.deadline = self.loop.time() + self._settings.header_seconds
        self._all.mark_idle(self)

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        self._header_bytes = 0
        if self._is_refused:
            return
        if size > self._all.max_header:
            self._refuse_header()
        elif len(self.pipeline) >= MAX_PIPELINED:
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests before the first is answered")
        else:
            super().on_headers_complete()
            if self._is_last:
                self.cycle.keep_alive = False
            self.deadline = self.loop.time() + self._settings.body_seconds

    def on_body(self, body: bytes) -> None:
        self._header_bytes = 0
        if self._is_refused:
            return
        super().on_body(body)
        if not self.cycle.response_complete:
            self._all.count_bytes(self, len(body))

    def on_message_complete(self) -> None:
        self._header_bytes = 0
        if self._is_refused:
            return
        super().on_message_complete()
        self._has_begun = False
        if self.cycle.response_complete:
            self._wait_for_next()
        else:
            self.deadline = inf
            self._all.mark_complete(self)

    # --- called by uvicorn when it hands a request to the application, and when the answer is written ---

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        super().on_response_complete()
        if is_last:
            self._all.release(self)
            if not self._has_begun:
                self._wait_for_next()

    def _wait_for_next(self) -> None:
        self.deadline = self.loop.time() + self._settings.keep_alive_seconds
        self._all.mark_idle(self)

    # --- ends ---

    def shutdown(self) -> None:
        """Answer what has begun, and the first request of a connection that has just been accepted, and no more."""
        if self._answered is None and not self._is_refused:
            self._is_last = True
            self.deadline = min(self.deadline, self.loop.time() + LINGER_SECONDS)
        else:
            super().shutdown()

    def look_at_clock(self, now: float) -> None:
        """End what is over its time."""
        if self.transport.is_closing() or self.flow.write_paused:
            # The client does not read its answer.
            self._stuck_since = min(self._stuck_since, now)
            patience = LINGER_SECONDS if self.transport.is_closing() else self._settings.body_seconds
            if now - self._stuck_since > patience:
                self.transport.abort()
            return
        self._stuck_since = inf
        if now < self.deadline:
            return
        if self._is_refused:
            self.transport.abort()
        elif self._has_begun:
            self.refuse(HTTPStatus.REQUEST_TIMEOUT, "the request took too long to arrive")
        else:
            self.transport.close()

    def give_place(self) -> None:
        """Make room for another connection, at once."""
        if self._has_begun and not self._is_refused:
            self._respond(
                HTTPStatus.SERVICE_UNAVAILABLE, "too many connections, and this one waited longest; try again"
            )
        self._is_refused = True
        self._end_cycle()
        self._all.remove(self)
        self.transport.close()

    def refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer in the application's place, and read no more."""
        if self._is_refused:
            return
        self._respond(status, detail)
        self._is_refused = True
        self._end_cycle()
        self._all.release(self)
        # Closed at once, with bytes of the client under way, its system would throw the answer away.
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self.deadline = self.loop.time() + LINGER_SECONDS
        self.flow.resume_reading()

    def _refuse_header(self) -> None:
        self.refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the header is larger than {self._settings.max_header_kb:g} kB, the most that is read",
        )

    def _respond(self, status: HTTPStatus, detail: str) -> None:
        """Write an answer, unless another one has begun or comes first."""
        self._all.note_refusal(status)
        log.info("%s refused %d %s", self.address or "-", status, detail)
        before = self._answered
        is_next = before is None or before.response_complete or (before is self.cycle and not before.response_started)
        if self.transport.is_closing() or not is_next:
            return
        body = json.dumps({"detail": detail}).encode()
        retry = b"retry-after: 1\r\n" if status is HTTPStatus.SERVICE_UNAVAILABLE else b""
        self.transport.write(
            b"%bcontent-type: application/json\r\ncontent-length: %d\r\n%bconnection: close\r\n\r\n%b"
            % (STATUS_LINE[status], len(body), retry, body)
        )

    def _end_cycle(self) -> None:
        """Tell the application that its client is gone."""
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.body = bytearray()
            self._answered.message_event.set()
        self.pipeline.clear()


def _descriptors() -> float:
    """File descriptors that this process may have."""
    if sys.platform == "win32":
        return inf
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return inf if soft == resource.RLIM_INFINITY else soft
