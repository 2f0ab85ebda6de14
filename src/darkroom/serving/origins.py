"""By which names the server is asked, and by which web pages: a browser asks for every page that its user opens."""

import re
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from ipaddress import ip_address

from starlette.datastructures import Headers

ANY = "*"
LONGEST_HOST = 261  # of a name and a port
PORT = re.compile(r":[0-9]*$")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Fetch Metadata Request Headers (W3C), section 2.3: by the page itself, or by the user and no page at all.
OWN_SITE = frozenset({"same-origin", "none"})


class Origins:
    """Refuses requests under foreign names, and those that the pages of other sites make a browser send.

    A page whose name leads to this machine (DNS rebinding) would otherwise read whatever the server answers. Addresses
    in digits cannot lead elsewhere, so all of them are taken. ``host`` is the name where the server listens, ``names``
    are further ones; ``*.example.com`` stands for every name below it and ``*`` for all names.
    """

    def __init__(self, host: str, names: Iterable[str] = ()) -> None:
        # An address has other servers at other ports, and no proxy puts it into an origin.
        known = names if host == "localhost" or _is_address(host) else (host, *names)
        self._names = frozenset(name.lower().rstrip(".") for name in known)
        self._is_trusted = lru_cache(1024)(self._find_out)

    def refusal(self, method: str, headers: Headers) -> tuple[HTTPStatus, str] | None:
        """Status and reason for a request that is refused. One without Host is no browser's."""
        host = headers.get("host", "")
        if host and (len(host) > LONGEST_HOST or not self._is_trusted(host)):
            return (
                HTTPStatus.MISDIRECTED_REQUEST,
                f"this server is not known as {_name(host)!r}; add the name to serve.trusted_hosts if it is",
            )
        if method not in SAFE_METHODS and not self._is_own_page(host, headers):
            return HTTPStatus.FORBIDDEN, "requests from pages of other sites are refused"
        return None

    def _find_out(self, host: str) -> bool:
        name = _name(host)
        return name == "localhost" or name.endswith(".localhost") or _is_address(name) or self._is_named(name)

    def _is_named(self, name: str) -> bool:
        if ANY in self._names or name in self._names:
            return True
        labels = name.split(".")
        return any(".".join([ANY, *labels[start:]]) in self._names for start in range(1, len(labels)))

    def _is_own_page(self, host: str, headers: Headers) -> bool:
        """Browsers say which site asks if this one is on loopback or https, and elsewhere the page's origin alone."""
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site is not None:
            return site in OWN_SITE
        if origin is None:
            return True
        asking = origin.partition("://")[2].lower()
        # A proxy at the usual ports may have put another name into Host. What has a port is another server.
        return asking == host.lower() or (PORT.search(asking) is None and asking != "" and self._is_named(asking))


def _name(host: str) -> str:
    """The name or address in a Host header, without its port."""
    name = PORT.sub("", host.lower())
    if name.startswith("[") and name.endswith("]"):
        return name[1:-1]
    return name.rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
