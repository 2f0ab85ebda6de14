"""Requests through a proxy: the path prefix, and the address of the client."""

import re
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

PREFIX = "darkroom.prefix"
PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")


class BehindProxy:
    """Takes the path below which a proxy has put the server away again, and keeps it in the scope under ``PREFIX``.

    It is ``root_path``, or else what a proxy of the addresses or networks ``trusted`` says in X-Forwarded-Prefix. These
    proxies are also believed who has asked them.
    """

    def __init__(self, app: ASGIApp, root_path: str, trusted: Iterable[str]) -> None:
        self._app = ProxyHeadersMiddleware(app, list(trusted))  # type: ignore[arg-type]  # uvicorn's own types
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (prefix := self._root_path or self._forwarded(scope)):
            path = scope["path"]
            if path == prefix or path.startswith(f"{prefix}/"):
                path = path.removeprefix(prefix) or "/"
            scope = {**scope, PREFIX: prefix, "path": path}
        await self._app(scope, receive, send)  # type: ignore[arg-type]

    def _forwarded(self, scope: Scope) -> str:
        client = scope.get("client")
        if not client or client[0] not in self._app.trusted_hosts:
            return ""
        said = Headers(scope=scope).get("x-forwarded-prefix", "").rstrip("/")
        return said if PATH.fullmatch(said) else ""
