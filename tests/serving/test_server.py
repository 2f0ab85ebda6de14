"""`darkroom serve` as a person runs it: how it starts, follows the registry under load, and ends."""

import signal
import socket
import subprocess
import threading
import time
from collections import Counter

import httpx2
import pytest
from tests.conftest import QUICK
from tests.serving.process import SECONDS, command, serve

from darkroom.promotion.registry import CHALLENGER, CHAMPION, REGISTERED_BY_TAG

CLIENTS, SWAPS = 4, 10


def again(client, version):
    """Register the model of ``version`` once more, as another version."""
    tags = {key: value for key, value in version.tags.items() if key != REGISTERED_BY_TAG}
    model_id = str(version.source).removeprefix("models:/")
    return client.create_model_version(version.name, version.source, version.run_id, tags=tags, model_id=model_id)


def refused(root, *arguments):
    """What the command says that does not start; one line."""
    ended = subprocess.run(command(*arguments), cwd=root, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    return ended.stderr


def wait_for(condition):
    for _ in range(10 * SECONDS):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it never came true")


class Load(threading.Thread):
    """Asks again and again, and keeps every answer's status and version."""

    def __init__(self, address: str, content: bytes):
        super().__init__()
        self.found = Counter()
        self.ends = threading.Event()
        self._address, self._content = address, content

    def run(self):
        with httpx2.Client(base_url=self._address, timeout=SECONDS) as client:
            while not self.ends.is_set():
                answer = client.post("/v1/predict", files={"images": self._content})
                self.found[answer.status_code, answer.json().get("version")] += 1


@pytest.fixture
def picture(evaluated):
    return next((evaluated / "reports/evaluate/gallery").glob("*.png")).read_bytes()


def test_champions_are_swapped_under_load_without_a_request_that_fails(evaluated, registered, picture, write_params):
    write_params(evaluated, **QUICK, serve__follow_seconds=0.2)
    client, first = registered
    second = again(client, first)
    name = first.name
    with serve(evaluated) as served, httpx2.Client(base_url=served.address, timeout=SECONDS) as asked:
        load = [Load(served.address, picture) for _ in range(CLIENTS)]
        for each in load:
            each.start()
        try:
            for number in range(SWAPS):
                version = str((second, first)[number % 2].version)
                client.set_registered_model_alias(name, CHAMPION, version)
                wait_for(lambda wanted=version: asked.get("/v1/model").json()["version"] == wanted)
                before = sum(load[0].found.values())
                wait_for(lambda count=before: sum(load[0].found.values()) > count + 1)
        finally:
            for each in load:
                each.ends.set()
            for each in load:
                each.join()
        found = sum((each.found for each in load), Counter())
        assert found.keys() == {(200, "1"), (200, "2")}
        assert served.stop(signal.SIGTERM) == 0


def test_a_champion_whose_files_are_gone_does_not_answer_and_the_one_before_goes_on(evaluated, registered, picture):
    client, first = registered
    broken = client.create_model_version(first.name, "file:///nowhere", first.run_id, tags=first.tags)
    with serve(evaluated) as served, httpx2.Client(base_url=served.address, timeout=SECONDS) as asked:
        client.set_registered_model_alias(first.name, CHAMPION, str(broken.version))
        wait_for(lambda: asked.get("/v1/model").json()["trouble"])
        assert asked.get("/v1/model").json()["trouble"].startswith("version 2 is champion and could not be loaded (")
        assert asked.post("/v1/predict", files={"images": picture}).json()["version"] == "1"
        assert "darkroom_champion_trouble 1.0" in asked.get("/metrics").text
        assert served.stop(signal.SIGINT) == 0
        assert "Traceback" not in served.log.read_text(encoding="utf-8")


def test_the_challenger_answers_too_and_the_key_is_asked_for(evaluated, registered, picture):
    client, first = registered
    client.set_registered_model_alias(first.name, CHALLENGER, str(again(client, first).version))
    with (
        serve(evaluated, DARKROOM_API_KEY="a key") as served,
        httpx2.Client(base_url=served.address, timeout=SECONDS, headers={"x-api-key": "a key"}) as asked,
    ):
        assert httpx2.get(f"{served.address}/v1/model").status_code == 401
        wait_for(lambda: asked.get("/v1/model").json()["challenger"])
        found = asked.post("/v1/predict?challenger=true", files={"images": picture}).json()
        assert (found["version"], found["challenger"]["version"]) == ("1", "2")
        assert found["predictions"] == found["challenger"]["predictions"]


def test_it_reports_to_nobody_and_leaves_nothing_behind(evaluated, registered, write_params, monkeypatch):
    """ONNX Runtime would keep a device's name and a queue of events in the user's home."""
    write_params(evaluated, **QUICK, serve__runtime="onnx")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    home = evaluated / "home"
    home.mkdir()
    before = set(evaluated.iterdir())
    with serve(evaluated, HOME=str(home), XDG_CACHE_HOME="") as served:
        assert served.stop(signal.SIGINT) == 0
    assert list(home.rglob("*")) == []
    assert set(evaluated.iterdir()) == before | {served.log}


def test_without_a_store_it_says_how_to_make_one(evaluated):
    (evaluated / "mlflow.db").unlink()
    assert "run `dvc repro`" in refused(evaluated)
    assert not (evaluated / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://127.0.0.1:1", "MLflow store http://127.0.0.1:1 cannot be used (no connection)"),
        ("gopher://nowhere", "MLflow knows no gopher: stores"),
    ],
)
def test_a_store_that_is_away_at_the_start_is_named(evaluated, monkeypatch, address, words):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert words in refused(evaluated)


def test_without_a_champion_it_says_how_to_make_one(evaluated):
    assert "has no champion; `dvc repro` trains" in refused(evaluated)


def test_an_address_that_is_taken_is_told_before_anything_is_loaded(evaluated):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}: address already in use; choose another address" in refused(evaluated, "--port", port)
    assert "choose another address with --host" in refused(evaluated, "--host", "no.such.host.invalid")


def test_a_wrong_setting_is_refused(evaluated, write_params):
    write_params(evaluated, serve__runtime="tensorflow")
    assert "serve.runtime" in refused(evaluated)
