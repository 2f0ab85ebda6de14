"""How one of several processes begins to serve."""

import asyncio
import gc
import logging
import os
import sys
import time
from functools import partial
from typing import cast

import torch
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE

from darkroom.errors import DarkroomError
from darkroom.serving.app import make_app
from darkroom.serving.champion import load_champion
from darkroom.serving.class_check import warn_of_other_classes
from darkroom.serving.connections import Connections
from darkroom.serving.log import log_to_stderr
from darkroom.serving.processes import WorkerConfig
from darkroom.serving.registry_watcher import RETRY_SECONDS, RegistryWatcher
from darkroom.serving.service import Service
from darkroom.serving.share import cores, share
from darkroom.tracking.tracker import registry_client
from darkroom.utils.console import error

log = logging.getLogger(__name__)


def begin(worker: WorkerConfig) -> tuple[ASGIApp, type[asyncio.Protocol]]:
    """Load the champion; return the application and what makes its connections."""
    config = worker.project
    log_to_stderr()
    torch.set_num_threads(cores(config.serve))
    service = Service(share(config.serve), worker.shared)
    watcher = _load_champion(worker, service)
    if worker.is_first:
        model = service.champion.model
        cache = worker.workspace.processed(config.dataset.name)
        warn_of_other_classes(f"{model.name} version {model.version}", model.classes, cache)
    following = partial(watcher.following, seconds=config.serve.follow_seconds)
    app = make_app(service, worker.key, host=worker.served_as, lifespan=following)
    gc.collect()
    gc.freeze()
    log.info("process %d has loaded version %s", os.getpid(), service.champion.model.version)
    return app, cast("type[asyncio.Protocol]", Connections(service.settings, service.metrics).make)


def _load_champion(worker: WorkerConfig, service: Service) -> RegistryWatcher:
    """If it cannot be loaded the first process ends; another one tries again, and the others answer meanwhile."""
    while True:
        try:
            return load_champion(worker.project, registry_client(worker.workspace), service)
        except DarkroomError as problem:
            if worker.is_first:
                error(problem.lines)
                sys.exit(STARTUP_FAILURE)
            log.error("process %d cannot answer yet (%s)", os.getpid(), problem.lines[0])
            time.sleep(RETRY_SECONDS)
