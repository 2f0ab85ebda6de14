"""A bucket on loopback."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from tests import s3
from tests.ports import free_port
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
    # Not a port of the system's choice: while a server is stopped, the system could give it to someone else.
    server = s3.Server(free_port())
    yield server
    server.stop()


@pytest.fixture(scope="session", autouse=True)
def known_services():
    """A client reads from botocore's files what S3 is, which takes most of the time that it needs to be made."""
    from botocore.loaders import JSONFileLoader

    load, known = JSONFileLoader.load_file, {}

    def load_once(loader, path):
        if path not in known:
            known[path] = load(loader, path)
        return known[path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", load_once)
        yield


@pytest.fixture
def server(moto, monkeypatch):
    """A server with the bucket "photos", in which FILES are."""
    moto.hold(FILES)
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
