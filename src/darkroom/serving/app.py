"""The server's application: the API, the page, and what surrounds them."""

import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Mount, Route
from starlette.types import Lifespan, Receive, Scope, Send

from darkroom import __version__, pages
from darkroom.serving import corrections
from darkroom.serving.api import PREDICT_PATH, make_router
from darkroom.serving.messages import one_line
from darkroom.serving.middleware import AccessMiddleware
from darkroom.serving.origins import Origins
from darkroom.serving.proxies import PREFIX, BehindProxy
from darkroom.serving.service import Service

PAGE = Path(__file__).parent / "page"
THEME = Path(pages.__file__).parent / "theme.css"
ABOUT = """
Images in, classes with calibrated probabilities out. The model is the champion of MLflow's registry: after a promotion
or a rollback the new one answers within seconds, and every answer names its version.
"""


def make_app(
    service: Service,
    api_key: str | None = None,
    *,
    host: str = "localhost",
    lifespan: Lifespan[Starlette] | None = None,
) -> Starlette:
    """The application of ``service``; with an ``api_key`` the API and the metrics ask for it.

    It answers under the name ``host``, where it listens, and those of the settings, and runs within ``lifespan``.
    """
    router = make_router(service)
    router.include_router(corrections.make_router(service))
    predict = next(route for route in router.routes if isinstance(route, APIRoute) and route.path == PREDICT_PATH)
    origins = Origins(host, service.settings.trusted_hosts)
    return Starlette(
        routes=[
            # Without FastAPI, whose way to an endpoint takes a quarter of the time of a prediction, for parameters that
            # this one does not declare. Its route stays, as the description of the API.
            Route(predict.path, Endpoint(predict.endpoint), methods=["POST"]),
            Mount("/", _make_documented(router, has_key=bool(api_key))),
        ],
        middleware=[
            Middleware(BehindProxy, root_path=service.settings.root_path, trusted=service.settings.trusted_proxies),
            Middleware(AccessMiddleware, metrics=service.metrics, api_key=api_key, origins=origins),
        ],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )


class Endpoint:
    """A function from request to response as an application, without Starlette's second layer of exception handlers."""

    def __init__(self, function: Callable[[Request], Awaitable[Response]]) -> None:
        self._function = function

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._function(Request(scope, receive))
        await response(scope, receive, send)


def _make_documented(router: APIRouter, *, has_key: bool) -> FastAPI:
    """The API with its description, and the page."""
    app: FastAPI = FastAPIOffline(
        docs_url=None,
        title="Darkroom",
        version=__version__,
        description=ABOUT,
        redoc_url=None,
        static_url="/docs/static",
        # Relative to the page that asks, and so below whatever path a proxy has put the server.
        servers=[{"url": "."}],
        redirect_slashes=False,  # a redirect would go wherever the Host header says, and fails for some query strings
        exception_handlers=HANDLERS,
    )
    app.include_router(router)

    @app.get("/static/theme.css", include_in_schema=False)
    async def theme() -> FileResponse:
        return FileResponse(THEME)

    app.mount("/static", StaticFiles(directory=PAGE), name="static")

    text = (PAGE / "index.html").read_text(encoding="utf-8")

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> HTMLResponse:
        # Relative links are wrong where the address lacks the slash at the end of a proxy's path.
        prefix = request.scope.get(PREFIX)
        return HTMLResponse(re.sub(r'="(?=static/|docs")', f'="{prefix}/', text) if prefix else text)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url="docs/static/swagger-ui-bundle.js",
            swagger_css_url="docs/static/swagger-ui.css",
            swagger_favicon_url="docs/static/favicon.png",
        )

    if has_key:
        _describe_key(app)
    return app


def _describe_key(app: FastAPI) -> None:
    """So that the API's page asks for the key and sends it."""
    described = app.openapi()
    described["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    described["security"] = [{"key": []}]


async def _refuse_parameter(request: Request, problem: Exception) -> JSONResponse:
    """In one line, as every other refusal."""
    assert isinstance(problem, RequestValidationError)
    error = problem.errors()[0]
    place = ".".join(str(part) for part in error["loc"])
    return JSONResponse({"detail": one_line(f"{place}: {error['msg']}")}, HTTPStatus.UNPROCESSABLE_ENTITY)


async def _refuse(request: Request, problem: Exception) -> JSONResponse:
    """In one line, also where the refusal quotes what the client has sent."""
    assert isinstance(problem, HTTPException)
    return JSONResponse({"detail": one_line(problem.detail)}, problem.status_code, problem.headers)


async def _disconnected(request: Request, problem: Exception) -> JSONResponse:
    return JSONResponse({"detail": "the request ended before its body"}, HTTPStatus.BAD_REQUEST)


async def _internal_error(request: Request, problem: Exception) -> JSONResponse:
    """Starlette raises it on, so that it stands in the log with its traceback."""
    return JSONResponse({"detail": "internal error; the server's log says more"}, HTTPStatus.INTERNAL_SERVER_ERROR)


HANDLERS: dict[int | type[Exception], Callable[[Request, Exception], Awaitable[JSONResponse]]] = {
    RequestValidationError: _refuse_parameter,
    HTTPException: _refuse,
    ClientDisconnect: _disconnected,
    Exception: _internal_error,
}
