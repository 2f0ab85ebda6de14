"""An application behind the server's own HTTP, in a thread of the test's process."""

import socket
import threading
from contextlib import contextmanager

from tests.wait import SECONDS, wait_until

from darkroom.serving.app import make_app
from darkroom.serving.server import make_server


@contextmanager
def running(service):
    """``service`` on a free port of loopback; gives the address and uvicorn's server."""
    server = make_server(make_app(service), service)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive(), "the server started")
            assert server.started
            yield listening.getsockname(), server
        finally:
            server.should_exit = True
            thread.join()


def connect(address, content=b"", source="127.0.0.1"):
    """A connection from ``source`` that has sent ``content``."""
    connection = socket.create_connection(address, timeout=SECONDS, source_address=(source, 0))
    connection.sendall(content)
    return connection


def read(connection):
    """All that comes until the server ends the connection; then it is closed."""
    received = b""
    with connection:
        try:
            while part := connection.recv(1 << 16):
                received += part
        except (ConnectionResetError, BrokenPipeError):
            pass
    return received
