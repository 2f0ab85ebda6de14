"""A Ray cluster: one that is there, or one that is started on this machine for who uses it.

Ray is an extra, and what it needs to be quiet and quick has to be set before it is imported.
"""

import logging
import math
import os
import re
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from darkroom.errors import ConfigError
from darkroom.utils.memory import failure_reason
from darkroom.utils.signals import SIGNALS, held_back

# In which a cluster answers.
CONNECT_TIMEOUT_SECONDS = 10
# Ray reads these as it is imported: nothing is reported, a cluster that does not answer is soon known, and what it has
# to say about a dead process is left to who has started it.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "1",
    "RAY_py_gcs_connect_timeout_s": str(CONNECT_TIMEOUT_SECONDS),
    "RAY_gcs_rpc_server_connect_timeout_s": str(CONNECT_TIMEOUT_SECONDS),
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}
# Named for the systems on which Ray does so by itself; on all of them it keeps a cluster of one machine on loopback.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# What goes through it is small; the images are read from the cache.
OBJECT_STORE_BYTES = 100 << 20


@contextmanager
def connected(setting: str, address: str | None, cpus: int = 0, *, asked_by: str | None = None) -> Iterator[Any]:
    """Ray, connected to the cluster at ``address``; in the end what it has changed in this process is as it was.

    Without an address a cluster is started for the block. It has this machine's processors, or says so of ``cpus`` if
    those are more. Messages name the ``setting`` of the address, and what has ``asked_by`` for Ray, if that is another.

    Raises ConfigError if Ray is not installed, or if the cluster does not answer.
    """
    for name, value in (ENVIRONMENT | ({} if address else LOOPBACK)).items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigError(
            f"{asked_by or setting}: ray is not installed; run `pip install --editable '.[ray]'`"
        ) from None
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as directory:
        try:
            with held_back():
                if address is None:
                    _start(ray, directory, cpus)
                else:
                    _join(ray, setting, address)
                for number, handler in handlers.items():
                    signal.signal(number, handler)
            yield ray
        finally:
            with held_back():
                ray.shutdown()


def _start(ray: Any, directory: str, cpus: int) -> None:
    ray.init(
        address="local",
        num_cpus=max(cpus, os.cpu_count() or 1),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.CRITICAL,
        _temp_dir=directory,
    )


def _join(ray: Any, setting: str, address: str) -> None:
    found = re.fullmatch(r"([^:/]+):(\d+)", address)
    if address != "auto" and not found:
        raise ConfigError(f"{setting}: expected host:port, or auto on a node of the cluster, got {address}")
    try:
        if found:
            # Ray itself is slow to see that nobody is there.
            socket.create_connection((found[1], int(found[2])), CONNECT_TIMEOUT_SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, OverflowError, RuntimeError) as problem:
        if _wants_token(problem):
            raise ConfigError(
                f"{setting}: the Ray cluster at {address} accepts only its own token; set RAY_AUTH_MODE=token, and "
                "RAY_AUTH_TOKEN to what `ray get-auth-token` prints on its head node"
            ) from None
        raise ConfigError(
            f"{setting}: no Ray cluster answers at {address} ({failure_reason(problem)}); "
            "start it with `ray start --head`"
        ) from None


def _wants_token(problem: BaseException) -> bool:
    """Ray reports a refused token as a failed connection, and the reason only in the text of what came before."""
    while problem.__context__ and "AuthenticationError" not in str(problem):
        problem = problem.__context__
    return "AuthenticationError" in str(problem)


def named(address: str | None) -> str:
    """The cluster at ``address`` in a message."""
    return f"the cluster at {address or 'this machine'}"


def room(ray: Any, cpus: int, gpus: float = 0) -> int:
    """How many processes the nodes can hold that need so many processors and GPUs each, if nobody else uses them."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    by_cpus = [node.get("CPU", 0) // cpus for node in nodes]
    by_gpus = [node.get("GPU", 0) / gpus if gpus else math.inf for node in nodes]
    return sum(int(min(fits)) for fits in zip(by_cpus, by_gpus, strict=True))
