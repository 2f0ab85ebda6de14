"""What a Ray cluster that cannot be joined is reported as."""

import re
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from darkroom.errors import ConfigError
from darkroom.utils.ray_cluster import _join


def refuses_the_token(**_: Any) -> None:
    """As Ray 2.60 does: the reason is in the text of the first error alone."""
    try:
        raise RuntimeError("Failed to connect to GCS: ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken")
    except RuntimeError:
        raise ConnectionError("Failed to connect to Ray cluster") from None


def is_no_cluster(**_: Any) -> None:
    raise ConnectionError("Failed to connect to Ray cluster")


@pytest.mark.parametrize(
    ("init", "says"),
    [
        (refuses_the_token, "accepts only its own token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to "),
        (is_no_cluster, r"(Failed to connect to Ray cluster); start it with `ray start --head`"),
    ],
    ids=["refused token", "not a cluster"],
)
def test_a_cluster_that_asks_for_a_token_is_told_from_none(init: Any, says: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConfigError, match=rf"^search\.ray_address: .*{address}.*{re.escape(says)}"):
            _join(SimpleNamespace(init=init), "search.ray_address", address)
