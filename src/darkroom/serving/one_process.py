"""The server in one process."""

import signal
from functools import partial
from socket import socket

from darkroom.config import Config
from darkroom.serving.app import make_app
from darkroom.serving.champion import load_champion
from darkroom.serving.class_check import warn_of_other_classes
from darkroom.serving.listening import address_of
from darkroom.serving.log import log_to_stderr
from darkroom.serving.server import libraries_kept, make_server
from darkroom.serving.service import Service
from darkroom.tracking.tracker import registry_client
from darkroom.utils.console import messages
from darkroom.workspace import Workspace


def serve(config: Config, workspace: Workspace, listening: socket, host: str, key: str | None) -> None:
    """Load the champion, then answer on ``listening`` until the process is interrupted or terminated."""
    client = registry_client(workspace)
    log_to_stderr()
    service = Service(config.serve)
    watcher = load_champion(config, client, service)
    following = partial(watcher.following, seconds=config.serve.follow_seconds)
    server = make_server(make_app(service, key, host=host, lifespan=following), service)
    for number in (signal.SIGINT, signal.SIGTERM):
        # From here on a signal ends the server once all requests are answered, and is no error.
        signal.signal(number, server.handle_exit)
    model = service.champion.model
    who, address = f"{model.name} version {model.version}", address_of(listening, host)
    messages.print(f"{who} ({model.runtime.kind}) on {address}, until Ctrl-C; the API's page is {address}/docs")
    warn_of_other_classes(who, model.classes, workspace.processed(config.dataset.name))
    with libraries_kept():
        server.run(sockets=[listening])
