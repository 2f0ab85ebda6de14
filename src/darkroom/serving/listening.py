"""The address of the server, and who may use it."""

import os
import socket
from ipaddress import ip_address

from darkroom.errors import ServingError
from darkroom.serving.http_options import BACKLOG

KEY_VARIABLE = "DARKROOM_API_KEY"


def listen(host: str, port: int) -> socket.socket:
    """Open the socket before anything is loaded, so that a wrong address is reported at once."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as problem:
        # Python adds the address to the reason; a name that is not found has a reason of its own.
        why = os.strerror(problem.errno) if problem.errno and problem.errno > 0 else str(problem.strerror)
        raise ServingError(f"{host}:{port}: {why.lower()}; choose another address with --host and --port") from None


def address_of(listening: socket.socket, host: str) -> str:
    """The address to type into a browser."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"


def read_key(*, no_key: bool) -> str | None:
    """The API key from the environment, None if it is not set."""
    found = os.environ.get(KEY_VARIABLE)
    if found is None:
        return None
    if no_key:
        raise ServingError(f"--no-key, but {KEY_VARIABLE} is set; leave one of them out")
    key = found.strip()  # of the line that the key was read from; a header's value has no spaces around it either
    if not key:
        raise ServingError(f"{KEY_VARIABLE} is empty; set it to a key, or unset it to serve without one")
    if not (key.isascii() and key.isprintable()):
        raise ServingError(f"{KEY_VARIABLE}: expected letters, digits and signs of ASCII, all that a header can hold")
    return key


def check_access(listening: socket.socket, host: str, key: str | None, *, no_key: bool) -> None:
    """Raises ServingError if others could reach the server and use it without a key."""
    if key is None and not no_key and not ip_address(listening.getsockname()[0]).is_loopback:
        raise ServingError(
            f"{host}: anyone who reaches this address could use the API without a key; set {KEY_VARIABLE}, or "
            "allow it with --no-key"
        )
