"""Middleware: authorization, and an access log."""

import hmac
import logging
import time
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from darkroom.serving.messages import one_line
from darkroom.serving.metrics import ServerMetrics
from darkroom.serving.origins import Origins

log = logging.getLogger(__name__)
PROTECTED = ("/v1/", "/metrics")
# Paths that are counted by name; the others are any that somebody tries.
KNOWN = frozenset({
    "/", "/docs", "/healthz", "/metrics", "/openapi.json", "/readyz",
    "/v1/drift", "/v1/inbox", "/v1/model", "/v1/model/confusion", "/v1/model/gallery", "/v1/model/report",
    "/v1/predict", "/v1/shadow",
})  # fmt: skip
LONGEST_PATH = 200
LONGEST_CLIENT = 45  # an IPv6 address
# Nothing from elsewhere is loaded or shown. The API's page has its script in the page itself.
POLICY = (
    b"default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; style-src 'self'; script-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DOCS_POLICY = POLICY.replace(b"style-src 'self'", b"style-src 'self' 'unsafe-inline'").replace(
    b"script-src 'self'", b"script-src 'self' 'unsafe-inline'"
)

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    # Asked for again each time: after an update no file of the page before it is used.
    (b"cache-control", b"no-cache"),
)


class AccessMiddleware:
    """Refuses other sites and names, asks for the key, counts, and logs.

    A line of the log has method, path, status, milliseconds, and nothing of what was sent.
    """

    def __init__(self, app: ASGIApp, metrics: ServerMetrics, api_key: str | None, origins: Origins) -> None:
        self._app = app
        self._origins = origins
        self._telemetry = metrics
        self._key = api_key.encode() if api_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value
        path = scope["path"]

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                policy = DOCS_POLICY if path.startswith("/docs") else POLICY
                message["headers"] = [*message["headers"], (b"content-security-policy", policy), *HEADERS]
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        # Whoever has something for GET has it for HEAD.
        is_head = scope["method"] == "HEAD"
        asked = {**scope, "method": "GET"} if is_head else scope
        try:
            request = Headers(scope=scope)
            if refusal := self._origins.refusal(scope["method"], request):
                await JSONResponse({"detail": one_line(refusal[1])}, refusal[0])(scope, receive, send_on)
            elif self._key and path.startswith(PROTECTED) and not self._is_known(request):
                refused = {"detail": "send the API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`"}
                response = JSONResponse(refused, HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Bearer"})
                await response(scope, receive, send_on)
            else:
                await self._app(asked, receive, send_on)
        finally:
            seconds = time.perf_counter() - start
            name = path if path in KNOWN else "static" if path.startswith("/static") else "other"
            self._telemetry.count(name, status, seconds)
            # As it came over the wire: percent-encoded, on one line.
            wire = scope.get("raw_path", b"")[:LONGEST_PATH].decode("latin-1")
            # A proxy's X-Forwarded-For may be any text.
            client = one_line(scope["client"][0])[:LONGEST_CLIENT] if scope.get("client") else "-"
            log.info("%s %s %s %d %.1f ms", client, scope["method"], wire, status, 1000 * seconds)

    def _is_known(self, headers: Headers) -> bool:
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        given = credentials if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        assert self._key
        return hmac.compare_digest(given.strip().encode(), self._key)
