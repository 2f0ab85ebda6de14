"""One Ray cluster for all tests of this directory: two nodes with a processor each, in processes of their own."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest
from tests.ray_cluster.cluster import NODES, Nodes
from tests.unit.search.conftest import small_cache
from tests.unit.search.executors.conftest import all_end, forks, scene

from darkroom.utils.ray_cluster import ENVIRONMENT, LOOPBACK

__all__ = ["all_end", "forks", "scene", "small_cache"]

QUIET = ENVIRONMENT | LOOPBACK


@pytest.fixture(scope="session")
def cluster() -> Iterator[Nodes]:
    """Nodes of which tests may take away the second, and put one in its place."""
    # Ray leaves its logs there; pytest's own directories are too deep for its sockets.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as directory:
        # Its processes find the tests by PYTHONPATH.
        environment = os.environ | QUIET | {"RAY_TMPDIR": directory, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(
            [sys.executable, NODES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            yield Nodes(process)
            process.communicate()


@pytest.fixture(autouse=True)
def _quiet_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """What uses the cluster finds it on loopback."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
