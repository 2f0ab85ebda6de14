"""`darkroom serve`: load the champion, then serve it until the process ends."""

import os
import signal
from ipaddress import ip_address
from threading import Thread

from darkroom.config import Config
from darkroom.errors import ServingError
from darkroom.serving.app import make_app
from darkroom.serving.class_check import warn_of_other_classes
from darkroom.serving.loaded_model import load_version
from darkroom.serving.registry_watcher import RegistryWatcher
from darkroom.serving.server import SHUTDOWN_SECONDS, libraries_kept, listen, log_to_stderr, make_server
from darkroom.serving.service import Service
from darkroom.tracking.store import explained
from darkroom.tracking.tracker import registry_client
from darkroom.tracking.tracking_uri import tracking_uri
from darkroom.utils.console import messages
from darkroom.workspace import Workspace

KEY_VARIABLE = "DARKROOM_API_KEY"


def run(config: Config, workspace: Workspace, host: str, port: int, *, no_key: bool = False) -> None:
    """Serve on ``host``:``port`` until the process is interrupted or terminated.

    Raises TrackingError if there is no champion, ModelError if it cannot be loaded, ServingError if the address is
    taken, or if others can reach it and there is neither a key nor ``no_key``.
    """
    key = _read_key(no_key=no_key)
    client = registry_client(workspace)
    with listen(host, port) as listening:
        if key is None and not no_key and not ip_address(listening.getsockname()[0]).is_loopback:
            raise ServingError(
                f"{host}: anyone who reaches this address could use the API without a key; set {KEY_VARIABLE}, or "
                "allow it with --no-key"
            )
        log_to_stderr()
        service = Service(config.serve)
        watcher = RegistryWatcher(
            client, config.registered_model, lambda version: load_version(client, version, config.serve), service
        )
        try:
            watcher.begin()
        except Exception as problem:
            raise explained(problem, tracking_uri()) from problem
        seconds = config.serve.follow_seconds
        thread = Thread(target=watcher.follow, args=(seconds,), name="registry-watcher", daemon=True)
        thread.start()
        app = make_app(service, key, host=host)
        server = make_server(app, service)
        for number in (signal.SIGINT, signal.SIGTERM):
            # From here on a signal ends the server once all requests are answered, and is no error.
            signal.signal(number, server.handle_exit)
        model = service.champion.model
        address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        messages.print(
            f"{model.name} version {model.version} ({model.runtime.kind}) on {address}, until Ctrl-C; "
            f"the API's page is {address}/docs"
        )
        cache = workspace.processed(config.dataset.name)
        warn_of_other_classes(f"{model.name} version {model.version}", model.classes, cache)
        with libraries_kept():
            server.run(sockets=[listening])
        watcher.stop()
        # A thread that is loading a version when Python ends would be torn out of torch's and ONNX Runtime's code.
        thread.join(SHUTDOWN_SECONDS)


def _read_key(*, no_key: bool) -> str | None:
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
