"""`darkroom predict` on a Ray cluster, which reads shards from a web server on loopback."""

import io
import os
import re
import signal
import tarfile
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event

import psutil
import pytest
from PIL import Image
from tests.forkserver import start_command
from tests.ports import free_port
from tests.unit.refusals import refused
from tests.wait import SECONDS, wait_until
from tests.web_server import listening

from darkroom.utils.ray_cluster import LOOPBACK

SHARDS = 5
TASK = "ray::_answer"


def shard(number):
    """A tar of pictures of digits' size; one of them is broken."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for row in range(3):
            picture = io.BytesIO()
            Image.effect_noise((8, 8), 10 * number + row).save(picture, "PNG")
            member = tarfile.TarInfo(f"{row}.png")
            member.size = len(picture.getvalue()) if row or number else 20
            archive.addfile(member, io.BytesIO(picture.getvalue()))
    return content.getvalue()


class Web:
    """Counts the reads of each shard. Those of those that are ``held`` wait until ``free`` is set."""

    def __init__(self):
        self.shards = {f"/{number}.tar": shard(number) for number in range(SHARDS)}
        self.reset()

    def reset(self, *held):
        self.reads, self.held, self.free = Counter(), {f"/{number}.tar" for number in held}, Event()

    def answer(self, request, *, has_body):
        content = self.shards[request.path]
        if has_body:
            self.reads[request.path] += 1
            if request.path in self.held:
                self.free.wait(SECONDS)
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.send_header("ETag", '"1"')
        request.end_headers()
        if has_body:
            request.wfile.write(content)


@pytest.fixture(scope="module")
def web():
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            web.answer(self, has_body=False)

        def do_GET(self):
            web.answer(self, has_body=True)

        def handle(self):
            with suppress(ConnectionError):  # the worker that asked was killed
                super().handle()

        def log_message(self, *given):
            pass

    with listening(Handler) as web.address:
        yield web


@pytest.fixture
def start(web, cluster, project, evaluated_once):
    """Start the command on the cluster, and give its process and the file to which it writes what it says."""
    root, started = project(), []
    (root / "addresses.txt").write_text("".join(f"{web.address}{path}\n" for path in web.shards))

    def run(output, *arguments):
        weights = str(evaluated_once / "models/model.safetensors")
        given = ["predict", "@addresses.txt", "--weights", weights, "--output", output, *arguments]
        started.append(start_command(root, root / "said", *given, **LOOPBACK))
        return started[-1]

    yield run
    web.free.set()
    for process in started:
        process.kill()
        process.join()


def succeeds(process):
    process.join(SECONDS)
    assert process.exitcode == 0, Path("said").read_text()


def wait_while(process, condition, what):
    wait_until(lambda: condition() or not process.is_alive(), what)
    assert condition(), f"not {what}: {Path('said').read_text()}"


def parts():
    return len(list(Path("out.csv.parts").glob("*.arrow")))


@pytest.fixture
def alone(start, web):
    """What one process writes."""
    web.reset()
    succeeds(start("alone.csv"))
    return Path("alone.csv").read_bytes()


def tasks():
    """The processes of the cluster that have answered a shard."""
    found = psutil.process_iter(["cmdline"])
    return [process for process in found if (process.info["cmdline"] or [""])[0].startswith(TASK)]


def test_a_killed_worker_and_an_interrupted_command_leave_the_answers_of_one_process(start, web, cluster, alone):
    web.reset(2, 4)
    interrupted = start("out.csv", "--ray-address", cluster.address)
    reads = web.reads
    wait_while(interrupted, lambda: parts() == 3 and reads["/2.tar"] and reads["/4.tar"], "two shards are being read")
    os.kill(interrupted.pid, signal.SIGINT)
    interrupted.join(SECONDS)
    assert interrupted.exitcode == 130
    assert not Path("out.csv").exists()
    assert parts() == 3

    web.free.set()
    web.reset(4)
    killed = start("out.csv", "--ray-address", cluster.address)
    wait_while(killed, lambda: parts() == 4 and web.reads["/4.tar"], "the last shard is being read")
    (worker,) = tasks()
    worker.kill()
    wait_while(killed, lambda: any(task.pid != worker.pid for task in tasks()), "another worker has taken its shard")
    web.free.set()
    succeeds(killed)

    assert web.reads.keys() == {"/2.tar", "/4.tar"}
    assert Path("out.csv").read_bytes() == alone
    assert "3 of 5 shards had been answered" in Path("said").read_text()
    assert not Path("out.csv.parts").exists()


def test_a_shard_that_is_damaged_is_named_and_no_output_is_written(start, web, cluster, monkeypatch):
    web.reset()
    monkeypatch.setitem(web.shards, "/3.tar", web.shards["/3.tar"][:1000])
    refused = start("out.csv", "--ray-address", cluster.address)
    refused.join(SECONDS)
    assert refused.exitcode == 2
    said = Path("said").read_text()
    assert "Traceback" not in said
    # Ray itself may say something on a machine that is short of processors.
    found = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(found) == 1, said
    assert re.match(rf"error: {web.address}/3\.tar: damaged or unsupported archive", found[0]), said
    assert not Path("out.csv").exists()


def test_a_cluster_that_is_away_is_named(project, darkroom, evaluated_once):
    (project() / "1.png").write_bytes(b"")
    weights = str(evaluated_once / "models/model.safetensors")
    for address in (f"127.0.0.1:{free_port()}", "nonsense"):
        result = darkroom("predict", "1.png", "--weights", weights, "--ray-address", address)
        refused(result, rf"error: --ray-address: .*{address}")
