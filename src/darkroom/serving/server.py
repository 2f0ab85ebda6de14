"""The HTTP server: uvicorn within its limits."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from darkroom.serving.connections import Connections
from darkroom.serving.http_options import http_options
from darkroom.serving.service import Service


def make_server(app: ASGIApp, service: Service) -> uvicorn.Server:
    """What speaks HTTP for ``app``, within the bounds of the service's settings."""
    protocol = cast("type[asyncio.Protocol]", Connections(service.settings, service.metrics).make)
    return uvicorn.Server(uvicorn.Config(app, http=protocol, **http_options(service.settings)))


@contextmanager
def libraries_kept() -> Iterator[None]:
    """Keep the garbage collector from what the libraries have made: looking through it takes a part of a second."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
