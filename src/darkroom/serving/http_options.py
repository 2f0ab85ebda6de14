"""How uvicorn speaks HTTP: the same in one process and in several."""

from typing import Any

from darkroom.config.settings import Serve

# Connections that may wait to be accepted.
BACKLOG = 2048
# Seconds that requests, and then a version that is being loaded, may take to end after the server was told to.
SHUTDOWN_SECONDS = 10


def http_options(settings: Serve) -> dict[str, Any]:
    """Arguments of `uvicorn.Config`."""
    return {
        "ws": "none",
        "backlog": BACKLOG,
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,  # the application reads them
        "timeout_keep_alive": settings.keep_alive_seconds,
        "timeout_graceful_shutdown": SHUTDOWN_SECONDS,
    }
