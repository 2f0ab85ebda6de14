"""`darkroom serve` as a person runs it: how it starts, follows the registry under load, and ends."""

import logging
import signal
import socket
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress

import httpx2
import mlflow
import psutil
import pytest
from tests.conftest import QUICK
from tests.serving.process import OPEN_FILES, serve
from tests.serving.project import NAME, again, make_project, picture_of
from tests.wait import SECONDS, wait_until

from darkroom.promotion.registry import CHALLENGER, CHAMPION

pytestmark = pytest.mark.slow
KEY = "a key"
# Nearly all of a request that is as large as may be.
BODY_BYTES = 15_500_000


class Load(threading.Thread):
    """Asks again and again, and keeps every answer's status and version."""

    def __init__(self, address: str, content: bytes):
        super().__init__()
        self.found = Counter()
        self.ends = threading.Event()
        self._address, self._content = address, content

    def run(self):
        with httpx2.Client(base_url=self._address, timeout=SECONDS, headers={"x-api-key": KEY}) as client:
            while not self.ends.is_set():
                answer = client.post("/v1/predict", files={"images": self._content})
                self.found[answer.status_code, answer.json().get("version")] += 1


@pytest.fixture(scope="module")
def root(evaluated_once, tmp_path_factory, write_params):
    return make_project(evaluated_once, tmp_path_factory, write_params, serve__shadow=1.0)


@contextmanager
def serve_once(root, number, **environment):
    """Its server, as a process of its own; stopped with a signal in the end, it has left nothing behind.

    ONNX Runtime would keep a device's name and a queue of events in the user's home.
    """
    before = set(root.rglob("*"))
    with serve(root, HOME=str(root / "home"), XDG_CACHE_HOME="", **environment) as served:
        yield served
        assert served.stop(number) == 0
    assert set(root.rglob("*")) == before


@pytest.fixture(scope="module")
def served(root):
    """Its server for many tests, which asks for a key."""
    with serve_once(root, signal.SIGTERM, DARKROOM_API_KEY=f"{KEY}\n") as served:
        yield served


@pytest.fixture
def asked(served):
    with httpx2.Client(base_url=served.address, timeout=SECONDS, headers={"x-api-key": KEY}) as asked:
        yield asked


@pytest.fixture
def first(registry):
    """The version that is champion when a test begins, and again when it has ended."""
    version = registry.get_model_version_by_alias(NAME, CHAMPION)
    yield version
    registry.set_registered_model_alias(NAME, CHAMPION, str(version.version))


@pytest.fixture
def picture(root):
    return picture_of(root)


def test_champions_are_swapped_under_load_without_a_request_that_fails(served, asked, registry, first, picture, long):
    clients, swaps = (4, 6) if long else (2, 4)
    second = again(registry, first)
    load = [Load(served.address, picture) for _ in range(clients)]
    for each in load:
        each.start()
    try:
        for number in range(swaps):
            version = str((second, first)[number % 2].version)
            registry.set_registered_model_alias(NAME, CHAMPION, version)
            wait_until(lambda wanted=version: asked.get("/v1/model").json()["version"] == wanted, "the swap was seen")
            before = sum(load[0].found.values())
            wait_until(lambda count=before: sum(load[0].found.values()) > count + 1, "a client was answered")
    finally:
        for each in load:
            each.ends.set()
        for each in load:
            each.join()
    found = sum((each.found for each in load), Counter())
    assert found.keys() == {(200, str(each.version)) for each in (first, second)}


def test_a_champion_whose_files_are_gone_does_not_answer_and_the_one_before_goes_on(
    served, asked, registry, first, picture
):
    broken = registry.create_model_version(NAME, "file:///nowhere", first.run_id, tags=first.tags)
    registry.set_registered_model_alias(NAME, CHAMPION, str(broken.version))
    trouble = wait_until(lambda: asked.get("/v1/model").json()["trouble"], "the version was found broken")
    assert trouble.startswith(f"version {broken.version} is champion, but could not be loaded (")
    answer = asked.post("/v1/predict", files={"images": picture}).json()
    assert answer["version"] == str(first.version)
    assert "darkroom_champion_trouble 1.0" in asked.get("/metrics").text
    assert "Traceback" not in served.log.read_text(encoding="utf-8")


def test_the_challenger_answers_too(asked, registry, first, picture):
    challenger = str(again(registry, first).version)
    registry.set_registered_model_alias(NAME, CHALLENGER, challenger)
    wait_until(lambda: asked.get("/v1/model").json()["challenger"], "the challenger was loaded")
    found = asked.post("/v1/predict?challenger=true", files={"images": picture}).json()
    assert (found["version"], found["challenger"]["version"]) == (str(first.version), challenger)
    assert found["predictions"] == found["challenger"]["predictions"]


def test_challengers_that_change_or_cannot_be_loaded_fail_no_request(served, asked, registry, first, picture):
    second, third = again(registry, first), again(registry, first)
    broken = registry.create_model_version(NAME, "file:///nowhere", first.run_id, tags=first.tags)
    load = Load(served.address, picture)
    load.start()
    try:
        for version in (second, broken, third):
            registry.set_registered_model_alias(NAME, CHALLENGER, str(version.version))
            wanted = None if version is broken else str(version.version)
            wait_until(lambda wanted=wanted: shadow(asked)[0] == wanted, "the challenger was followed")
            if wanted:
                wait_until(lambda: shadow(asked)[1] > 0, "it answered what the champion was asked")
        registry.delete_registered_model_alias(NAME, CHALLENGER)
        wait_until(lambda: shadow(asked)[0] is None, "there is none any more")
    finally:
        load.ends.set()
        load.join()
    assert load.found.keys() == {(200, str(first.version))}
    assert f"version {broken.version} could not be loaded (" in served.log.read_text(encoding="utf-8")


def shadow(asked):
    """The challenger's version, and how many pictures it has answered."""
    found = asked.get("/v1/shadow").json()
    return found["challenger"] and found["challenger"]["version"], found["images"]


def test_who_has_no_key_is_told_so(served):
    assert httpx2.get(f"{served.address}/v1/model", timeout=SECONDS).status_code == 401


def test_more_connections_than_it_may_have_files_open_keep_nobody_out(served, asked, picture):
    address = ("127.0.0.1", int(served.address.rpartition(":")[2]))
    with ExitStack() as idle:
        for _ in range(2 * OPEN_FILES):
            idle.enter_context(socket.create_connection(address, timeout=SECONDS))
        answer = httpx2.post(
            f"{served.address}/v1/predict", files={"images": picture}, headers={"x-api-key": KEY}, timeout=SECONDS
        )
    assert answer.status_code == 200
    assert asked.get("/readyz").status_code == 200


def test_bodies_that_stop_before_their_end_take_little_memory_and_keep_nobody_out(served, asked, picture):
    address = ("127.0.0.1", int(served.address.rpartition(":")[2]))
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nx-api-key: {KEY}\r\n"
        "Content-Type: application/json\r\nContent-Length: 15900000\r\n\r\n"
    )
    memory = psutil.Process(served.process.pid).memory_info
    before = memory().rss
    with ExitStack() as waiting:
        for _ in range(60):
            client = waiting.enter_context(socket.create_connection(address, timeout=SECONDS))
            with suppress(OSError):  # refused meanwhile
                client.sendall(head.encode() + bytes(BODY_BYTES))
        answer = asked.post("/v1/predict", files={"images": picture})
        taken = memory().rss - before
    assert answer.status_code == 200
    assert taken < 60 * BODY_BYTES / 3


def test_ctrl_c_ends_it_too_and_leaves_nothing_behind(root, write_params):
    write_params(root, **QUICK, serve__runtime="torch")  # `served` has measured ONNX Runtime, and leaves nothing too
    with serve_once(root, signal.SIGINT) as served:
        assert httpx2.get(f"{served.address}/readyz", timeout=SECONDS).status_code == 200


@pytest.fixture
def refused(evaluated, darkroom):
    """What the command says that does not start; one line."""

    def refused(*arguments):
        code, _, errors = darkroom("serve", *arguments)
        assert code == 2
        assert errors.startswith("error: ")
        assert errors.count("\n") == 1
        return errors

    yield refused
    for name in ("darkroom.serving", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    mlflow.set_tracking_uri(None)


def test_without_a_store_it_says_how_to_make_one(evaluated, refused):
    (evaluated / "mlflow.db").unlink()
    assert "`darkroom register` registers models/model.safetensors" in refused()
    assert not (evaluated / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://127.0.0.1:1", "MLflow store http://127.0.0.1:1 cannot be used (no connection)"),
        ("gopher://nowhere", "MLflow knows no gopher: stores"),
    ],
)
def test_a_store_that_is_away_at_the_start_is_named(refused, monkeypatch, address, words):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert words in refused()


def test_without_a_champion_it_says_how_to_make_one(refused):
    assert "has no champion; `dvc repro` trains and registers a model (if it has nothing to do: `dark" in refused()


def test_an_address_that_is_taken_is_told_before_anything_is_loaded(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}: address already in use; choose another address" in refused("--port", port)
    assert "choose another address with --host" in refused("--host", "no.such.host.invalid")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "DARKROOM_API_KEY is empty; set it to a key, or unset it"),
        (" \n", "DARKROOM_API_KEY is empty"),
        ("ключ", "expected letters, digits and signs of ASCII"),
        ("two\nlines", "expected letters, digits and signs of ASCII"),
    ],
)
def test_a_key_that_nobody_could_send_is_refused_and_opens_nothing(refused, monkeypatch, key, words):
    monkeypatch.setenv("DARKROOM_API_KEY", key)
    told = refused()
    assert words in told
    assert "ключ" not in told


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104  # refused
def test_without_a_key_it_does_not_listen_beyond_this_machine(refused, monkeypatch, host):
    monkeypatch.delenv("DARKROOM_API_KEY", raising=False)
    told = refused("--host", host, "--port", "0")
    assert (
        f"{host}: anyone who reaches this address could use the API without a key; set DARKROOM_API_KEY, or allow"
        in told
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104  # closed at once
def test_no_key_lets_it_listen_beyond_this_machine(refused, monkeypatch, host):
    monkeypatch.delenv("DARKROOM_API_KEY", raising=False)
    # What comes after the check of the address and the key.
    assert "has no champion" in refused("--host", host, "--port", "0", "--no-key")


def test_a_key_and_no_key_contradict_each_other(refused, monkeypatch):
    monkeypatch.setenv("DARKROOM_API_KEY", KEY)
    assert "--no-key, but DARKROOM_API_KEY is set" in refused("--no-key")


def test_a_wrong_setting_is_refused(evaluated, refused, write_params):
    write_params(evaluated, serve__runtime="tensorflow")
    assert "serve.runtime" in refused()
