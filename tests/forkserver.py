"""Processes that begin with torch, MLflow and the stages imported, which takes longer than most of what is tested."""

import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerContext
from unittest import mock


def context() -> ForkServerContext:
    """What starts such processes, of which any may be killed."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.preloaded"])
    # Their parent finds the tests by PYTHONPATH.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        multiprocessing.forkserver.ensure_running()
    return found
