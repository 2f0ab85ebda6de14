"""Addresses of data on other machines. What is a secret in one is in no message, file or record."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

OBJECT_STORES = ("s3", "gs")
WEB = ("https", "http")
SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# Of the host or bucket of an address, and of the keys and folders behind it.
SECRET = re.compile(r"(?<=://)[^/]*@|[?#].*", re.DOTALL)


def is_address(text: str) -> bool:
    """Whether a text is an address such as s3://bucket/birds, and not a path on this machine."""
    return SCHEME.match(text) is not None


def without_scheme(text: str) -> str:
    """What follows the scheme of an address."""
    return SCHEME.sub("", text, count=1)


def check_address(address: str, schemes: Sequence[str] = (*OBJECT_STORES, *WEB)) -> None:
    """Raises ValueError, without what may be a secret in it, if nothing can be fetched from an address.

    ``schemes`` are those that are expected.

    A user, a password and a query, which may be signed, are refused: params.yaml, DVC's lock file, the experiments in
    git and the runs in MLflow would keep them.
    """
    shown = redact(address)
    try:
        parts = urlsplit(address)
        host = parts.hostname
        _ = parts.port
    except ValueError:  # a port that is no number, say
        raise ValueError(f"{shown}: not an address; expected one such as s3://bucket/birds") from None
    if parts.scheme not in schemes:
        *others, last = (f"{scheme}://" for scheme in schemes if scheme != "http")
        expected = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"{shown}: expected {expected}, got {parts.scheme}://; a path on this machine has none")
    if "@" in parts.netloc:
        raise ValueError(
            f"{shown}: holds a user or a password, which files and runs would keep; put credentials in the environment"
        )
    if not host:
        raise ValueError(f"{shown}: names no {'bucket' if parts.scheme in OBJECT_STORES else 'host'}")
    if shown != address:
        raise ValueError(
            f"{shown}: ends with a query or a fragment, which may be a signature that files and runs would keep; give "
            "the address without it, and credentials in the environment"
        )
    if any(part in (".", "..") for part in parts.path.split("/")):
        raise ValueError(f"{shown}: holds '.' or '..'; write the address in full")


def redact(address: str) -> str:
    """An address without user, password, query and fragment."""
    return SECRET.sub("…", address)
