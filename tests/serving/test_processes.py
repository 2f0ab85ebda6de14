"""`darkroom serve` in two processes: what they share, and what is left of one that is killed."""

import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx2
import psutil
import pytest
import requests
from requests.adapters import HTTPAdapter
from tests.serving.process import serve
from tests.serving.project import NAME, again, make_project, picture_of
from tests.wait import SECONDS, wait_until
from urllib3.util import Retry
from uvicorn.supervisors.multiprocess import SIGNALS

from darkroom.config import load
from darkroom.promotion.registry import CHALLENGER, CHAMPION
from darkroom.serving.processes import Supervisor, WorkerConfig
from darkroom.workspace import Workspace

# Between two requests of a client: without a pause, clients leave no core to a process that starts.
PAUSE = 0.02
# A process takes a minute to start where two cores are shared: these start some more.
LONG = pytest.mark.long
SLOW = pytest.mark.slow
WORKER = "spawn_main"


def workers_of(process):
    """The processes that answer, of a server."""
    found = set()
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.NoSuchProcess):  # it has just been killed
            if any(WORKER in word for word in child.cmdline()):
                found.add(child)
    return found


@contextmanager
def stopped(process):
    """``process`` takes no request meanwhile, so that another one answers."""
    process.suspend()
    try:
        yield
    finally:
        if process.is_running():
            process.resume()


def read(address):
    """All metrics that the processes tell, by their line's beginning."""
    text = httpx2.get(f"{address}/metrics", timeout=SECONDS).text
    return {name: float(value) for name, value in re.findall(r"^(\w.*) (\S+)$", text, re.MULTILINE)}


def answering(address):
    """How many processes answer with each version."""
    found = read(address).items()
    return {name.split('"')[1]: count for name, count in found if name.startswith("darkroom_version{") and count}


class Load(threading.Thread):
    """Asks again and again, each time on a new connection, and keeps every answer's status and version."""

    def __init__(self, address, content):
        super().__init__()
        self.found = Counter()
        self._ends = threading.Event()
        self._address, self._content = address, content

    def run(self):
        while not self._ends.wait(PAUSE):
            answer = ask(self._address, self._content)
            self.found[answer.status_code, answer.json().get("version")] += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *problem):
        self._ends.set()
        self.join()

    def wait_for_more(self):
        before = sum(self.found.values())
        wait_until(lambda: sum(self.found.values()) > before + 3 or not self.is_alive(), "requests were answered")


def ask(address, content):
    return httpx2.post(f"{address}/v1/predict", files={"images": content}, timeout=SECONDS)


@pytest.fixture(scope="module")
def root(evaluated_once, tmp_path_factory, write_params):
    return make_project(evaluated_once, tmp_path_factory, write_params, serve__processes=2, serve__shadow=1.0)


@contextmanager
def serve_both(root, temporary):
    """A server whose two processes answer."""
    environment = {"HOME": str(root / "home"), "XDG_CACHE_HOME": "", "TMPDIR": str(temporary)}
    with serve(root, **environment) as served:
        wait_until(lambda: sum(answering(served.address).values()) == 2, "both answer", served.process)
        yield served


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def served(root, temporary):
    """Stopped with a signal in the end, it and its processes have left nothing behind."""
    before = set(root.rglob("*"))
    with serve_both(root, temporary) as served:
        yield served
        workers = workers_of(served.process)
        assert served.stop(signal.SIGTERM) == 0
        assert not psutil.wait_procs(workers, SECONDS)[1]
        assert "Traceback" not in served.log.read_text(encoding="utf-8")
    assert set(root.rglob("*")) == before
    assert not list(temporary.glob(".darkroom.*"))


@pytest.fixture
def picture(root):
    return picture_of(root)


@SLOW
def test_what_is_told_is_of_all_processes_whichever_answers(served, picture):
    first, second = workers_of(served.process)
    before = read(served.address)
    for quiet, times in ((first, 3), (second, 2)):
        with stopped(quiet):
            for _ in range(times):
                assert ask(served.address, picture).status_code == 200
    told = []
    for quiet in (first, second):
        with stopped(quiet):
            told.append(read(served.address))
            assert (
                httpx2.get(f"{served.address}/v1/drift", timeout=SECONDS).json()["images"]
                == told[-1]["darkroom_drift_images"]
            )
    for name in ('darkroom_requests_total{path="/v1/predict",status="200"}', "darkroom_batch_images_sum"):
        assert {each[name] - before.get(name, 0) for each in told} == {5}
    assert {each["darkroom_drift_images"] - before["darkroom_drift_images"] for each in told} == {5}
    assert {each["darkroom_waiting_images"] for each in told} == {0}
    assert {each["darkroom_registry_up"] for each in told} == {1}


@LONG
@SLOW
def test_what_the_challenger_answers_in_any_process_is_told_by_all(served, registry, picture):
    champion = registry.get_model_version_by_alias(NAME, CHAMPION)
    registry.set_registered_model_alias(NAME, CHALLENGER, again(registry, champion).version)

    def shadow():
        return httpx2.get(f"{served.address}/v1/shadow", timeout=SECONDS).json()

    workers = workers_of(served.process)
    for number, quiet in enumerate(workers, start=1):
        with stopped(quiet):
            wait_until(lambda: shadow()["challenger"], "the challenger was loaded", served.process)
            assert ask(served.address, picture).status_code == 200
            wait_until(lambda wanted=number: shadow()["images"] == wanted, "it answered too", served.process)
    for quiet in workers:
        with stopped(quiet):
            assert shadow()["images"] == 2
    registry.delete_registered_model_alias(NAME, CHALLENGER)


@LONG
@SLOW
def test_a_process_that_is_killed_is_replaced_and_the_other_answers_what_it_had_not_accepted(served, picture):
    victim, other = workers_of(served.process)
    with stopped(victim), Load(served.address, picture) as load:
        load.wait_for_more()
        counted = read(served.address)
        victim.kill()
        wait_until(lambda: len(workers_of(served.process) - {victim}) == 2, "it was replaced", served.process)
        load.wait_for_more()
        wait_until(lambda: sum(answering(served.address).values()) == 2, "both answer", served.process)
        load.wait_for_more()
    assert {status for status, _ in load.found} == {200}
    assert other in workers_of(served.process)
    assert f"process {victim.pid} ended (SIGKILL); another one takes its place" in served.log.read_text(
        encoding="utf-8"
    )
    for each in workers_of(served.process):
        line = f"process {each.pid} has loaded version "
        wait_until(lambda line=line: line in served.log.read_text(encoding="utf-8"), "the log says so", served.process)
    told = read(served.address)
    for name in ('darkroom_requests_total{path="/v1/predict",status="200"}', "darkroom_drift_images"):
        assert told[name] > counted[name]


@SLOW
def test_a_client_that_asks_again_notices_no_kill(served, picture):
    again = Retry(total=20, backoff_factor=0.2, backoff_max=2.0, allowed_methods={"POST"})
    found, ends = Counter(), threading.Event()

    def load():
        with requests.Session() as session:
            session.mount("http://", HTTPAdapter(max_retries=again))
            while not ends.wait(PAUSE):
                # One that is killed in the middle of its answer.
                with suppress(requests.exceptions.ChunkedEncodingError):
                    answer = session.post(f"{served.address}/v1/predict", files={"images": picture}, timeout=SECONDS)
                    found[answer.status_code] += 1

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(load) for _ in range(4)]
        for _ in range(2):
            victim, _other = workers_of(served.process)
            before = found.total()
            wait_until(lambda before=before: found.total() > before + 20, "requests were answered", served.process)
            victim.kill()
            wait_until(lambda gone=victim: len(workers_of(served.process) - {gone}) == 2, "replaced", served.process)
        wait_until(lambda: sum(answering(served.address).values()) == 2, "both answer", served.process)
        ends.set()
        for client in clients:
            client.result()
    assert found.keys() == {200}


@SLOW
def test_both_follow_the_registry_without_a_request_that_fails(served, registry, picture):
    first = registry.get_model_version_by_alias(NAME, CHAMPION)
    second = again(registry, first)
    with Load(served.address, picture) as load:
        for version in (str(second.version), str(first.version)):
            registry.set_registered_model_alias(NAME, CHAMPION, version)
            wait_until(lambda wanted=version: answering(served.address) == {wanted: 2}, "both follow", served.process)
            load.wait_for_more()
    assert load.found.keys() == {(200, str(each.version)) for each in (first, second)}


@LONG
@SLOW
def test_when_the_supervisor_is_killed_the_processes_answer_what_they_have_begun_and_end(root, tmp_path, picture):
    with serve_both(root, tmp_path) as served:
        workers = workers_of(served.process)
        port = int(served.address.rpartition(":")[2])
        request = httpx2.Request("POST", f"{served.address}/v1/predict", files={"images": picture})
        body = request.read()
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        with socket.create_connection(("127.0.0.1", port), SECONDS) as begun:
            begun.sendall(f"POST /v1/predict HTTP/1.1\r\n{head}Expect: 100-continue\r\n\r\n".encode())
            assert b"100" in begun.recv(1000)  # the endpoint reads its body
            served.process.kill()
            wait_until(lambda: _is_closed(port), "the port is free")
            begun.sendall(body)
            assert begun.recv(1000).startswith(b"HTTP/1.1 200")
        assert not psutil.wait_procs(workers, SECONDS)[1]


@pytest.fixture
def supervisor(project, tmp_path):
    """A supervisor that has started nothing yet. It handles signals, which are the tests' again afterwards."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    root = project(serve__processes=2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = WorkerConfig(load(root / "params.yaml"), Workspace(root), "127.0.0.1", None, tmp_path)
        yield Supervisor(config, listening, lambda: None)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@SLOW
def test_a_process_that_ends_while_it_starts_is_not_waited_for(supervisor):
    process = supervisor._start()
    psutil.Process(process.pid).suspend()
    process.parent_conn.send(b"ping")

    process.process.kill()
    process.process.join()

    # The pipe has ended, where an answer would be waited for otherwise.
    assert process.parent_conn.poll(0)


def _is_closed(port):
    try:
        socket.create_connection(("127.0.0.1", port), SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


def refusal(darkroom, *arguments):
    code, _, errors = darkroom("serve", *arguments)
    assert code == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    return errors


@LONG
@SLOW
def test_without_a_champion_the_first_process_says_so_once(project):
    command = [sys.executable, "-m", "darkroom", "serve", "--port", "0"]
    ended = subprocess.run(command, cwd=project(serve__processes=2), capture_output=True, text=True)
    assert ended.returncode == 2
    assert re.fullmatch(r"error: .* has no champion; .*\n", ended.stderr)


def test_an_address_that_is_taken_is_told_before_any_process_starts(project, darkroom):
    project(serve__processes=2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = refusal(darkroom, "--port", str(taken.getsockname()[1]))
    assert "address already in use; choose another address" in told


def test_where_processes_cannot_share_a_port_it_says_so(project, darkroom, monkeypatch):
    project(serve__processes=2)
    monkeypatch.setattr("darkroom.serving.processes.sys.platform", "win32")
    assert "serve.processes: 2 processes share a port on Linux and macOS only; set it to 1" in refusal(
        darkroom, "--port", "0"
    )


@pytest.mark.parametrize("processes", [0, -1, "many"])
def test_a_number_of_processes_that_cannot_be_is_refused(project, darkroom, processes):
    project(serve__processes=processes)
    assert "serve.processes" in refusal(darkroom)
