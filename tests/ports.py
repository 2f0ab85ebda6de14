"""Ports for servers that the tests start."""

import itertools
import os
import random
import re
import socket

# Below the range from which Linux takes ports for outgoing connections (32768 and up), and a thousand for each worker
# of pytest-xdist: nobody else takes one between its being found free and the server's listening on it.
_worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) % 10
_first = 20_000 + 1_000 * _worker
_offsets = itertools.count(random.randrange(1_000))  # somewhere else than another session on this machine


def free_port() -> int:
    """A port on which nothing listens."""
    while True:
        port = _first + next(_offsets) % 1_000
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
