"""A search whose study lies in PostgreSQL: a real server, started for the test."""

import tempfile
from pathlib import Path

import pytest
from deploy.postgresql import PostgreSQL
from tests.ports import free_port

from darkroom.errors import SearchError, TrackingError
from darkroom.search.storage import open_storage


@pytest.fixture(scope="module")
def server():
    """The address of a new server, with a password."""
    port = free_port()
    # pytest's own directories are closed to others than who runs it.
    with tempfile.TemporaryDirectory(prefix="postgresql") as directory:
        Path(directory).chmod(0o711)
        try:
            made = PostgreSQL(Path(directory), port, "s3cret", "fsync=off")
        except TrackingError as problem:
            pytest.skip(str(problem))
        made.start()
        yield f"postgresql://darkroom:s3cret@127.0.0.1:{port}/postgres"
        made.stop("immediate")


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

    # In its own process: two workers on a database are tested above.
    found = scene(workers=1, storage=server, trials=7, epochs=3).result()

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
    assert line.startswith("search.storage: postgresql://darkroom@127.0.0.1:")
    assert reason in line
    assert "s3cret" not in line
    assert "wr0ng" not in line
    assert "\n" not in line
