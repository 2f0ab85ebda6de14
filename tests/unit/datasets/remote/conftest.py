"""A bucket on loopback."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from tests import s3
from tests.unit.datasets.remote.birds import BIRDS, FILES, contents

from darkroom.config.settings import Dataset
from darkroom.datasets.remote import stores
from darkroom.datasets.remote.bring import bring

# Both are of the extra dev.
if find_spec("moto") is None or find_spec("s3fs") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Further attempts come at once."""
    monkeypatch.setattr(stores, "WAITS", (0.0, 0.0, 0.0))
    for name, value in s3.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def moto():
    server = s3.Server()
    yield server
    server.stop()


@pytest.fixture
def server(moto, monkeypatch):
    """A server with the bucket "photos", in which FILES are."""
    client = moto.client
    for bucket in client.list_buckets()["Buckets"]:
        for each in client.list_objects_v2(Bucket=bucket["Name"]).get("Contents", []):
            client.delete_object(Bucket=bucket["Name"], Key=each["Key"])
    moto.put(FILES)
    moto.reads.clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.address)
    yield moto
    moto.answer = lambda method, path, query: None


@pytest.fixture
def fetched(tmp_path):
    """Bring a dataset; gives the local settings, the files by their names there, and what was said."""

    def run(path=BIRDS, **settings):
        local, said = bring(Dataset(name="folder", path=path, **settings), tmp_path, lambda *progress: None)
        place = Path(local.path)
        return local, contents(place) if place.is_dir() else place.read_bytes(), said

    return run
