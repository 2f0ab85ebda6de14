"""`darkroom compare --live` asks a server, joins its answers with labels, and says what they show."""

import json
from contextlib import contextmanager
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import numpy as np
import pytest
from tests.serving.fakes import brightness, make_loaded, png
from tests.serving.running import running
from tests.unit.refusals import refused

from darkroom.inbox.acceptance import COLUMNS
from darkroom.serving import shadow
from darkroom.serving.preprocessing import Options
from darkroom.serving.service import Answer


@pytest.fixture
def shadowed(make_service, monkeypatch):
    """A service whose challenger has answered thirty dark pictures with bright."""
    monkeypatch.setattr(shadow, "REST", 0)
    service = make_service(shadow=1.0)
    service.show_challenger(make_loaded("2", infer=lambda images: brightness(images)[:, ::-1]), None)
    champion = service.champion.model
    for shade in range(30):
        seen = champion.transform(png(shade))
        answer = Answer(seen, np.array([0.9, 0.1]), 0.0, False, None)
        service.shadow._compare(service.challenger.model, shadow._Answered(champion, answer, png(shade), Options()))
    return service


@contextmanager
def address(service):
    with running(service) as ((host, port), _):
        yield f"http://{host}:{port}"


def labels(path, label, count=30):
    """What the page of the inbox saves of the first pictures, each 4x4 pixels of one shade, and of two others."""
    digests = [blake2b(bytes([shade]) * 16, digest_size=16).hexdigest() for shade in range(count)]
    rows = [f"{digest},label,{label},Ann,2026-01-01T00:00:00Z" for digest in digests]
    others = [f"{'0' * 32},label,cat,Ann,2026-01-01T00:00:00Z", f"{'1' * 32},discard,,Ann,2026-01-01T00:00:00Z"]
    path.write_text("\n".join([",".join(COLUMNS), *rows, *others]))
    return str(path)


@pytest.mark.parametrize(("label", "verdict"), [("bright", "better"), ("dark", "worse")])
def test_with_labels_it_says_which_model_is_better(project, darkroom, shadowed, tmp_path, label, verdict):
    project()
    with address(shadowed) as url:
        code, output, errors = darkroom("compare", "--live", url, "--labels", labels(tmp_path / "labels", label))
    assert code == 0
    assert output.startswith(f"Version 2 is {verdict} than version 1: version 2 is right on ")
    assert "30 of the 30" in output or "0 of the 30" in output
    assert "without a label" not in errors


def test_without_labels_it_says_how_often_the_answers_differ_and_which_pictures_to_label(project, darkroom, shadowed):
    project()
    with address(shadowed) as url:
        code, output, errors = darkroom("compare", "--live", f"{url}/", "--json")
    found = json.loads(output)
    assert code == 0
    assert (found["verdict"], found["images"], found["different"], found["labeled"]) == ("undecided", 30, 30, 0)
    assert found["headline"].startswith("Version 2 answers 30 of 30 live pictures differently from version 1")
    assert len(found["server"]["disagreements"]) == 30
    assert "30 pictures that they answer differently without a label" in errors


def test_a_few_labels_decide_nothing(project, darkroom, shadowed, tmp_path):
    project()
    with address(shadowed) as url:
        code, output, errors = darkroom("compare", "--live", url, "--labels", labels(tmp_path / "labels", "bright", 4))
    assert code == 0
    assert output.startswith("Not decided yet: version 2 is right on 4 of the 4 pictures on which only one version is")
    assert "26 pictures" in errors


def test_the_key_is_sent(project, darkroom, shadowed, monkeypatch):
    project()
    monkeypatch.setenv("DARKROOM_API_KEY", "a key")
    with other_server(401, b"{}") as (url, seen):
        refused(darkroom("compare", "--live", url), rf"{url}: asks for a key; set DARKROOM_API_KEY$")
    assert seen["X-API-Key"] == "a key"


def test_a_server_without_a_challenger_or_the_setting_is_named(project, darkroom, make_service):
    project()
    with address(make_service()) as url:
        refused(darkroom("compare", "--live", url), rf"{url}: serve\.shadow is 0: .*; set it, to 0\.1 for example")
    with address(make_service(shadow=0.1)) as url:
        refused(
            darkroom("compare", "--live", url),
            f"{url}: shades has no challenger there but the champion itself; train another model with",
        )


@contextmanager
def other_server(status, body):
    """A server of something else; gives its address and the headers that it was sent."""
    seen = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.update(self.headers)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body"), [(404, b"no such page"), (404, b'{"detail": "Not Found"}'), (200, b"<html>"), (200, b"[1]")]
)
def test_what_is_no_darkroom_server_is_named(project, darkroom, status, body):
    project()
    with other_server(status, body) as (url, _):
        refused(darkroom("compare", "--live", url), f"{url}: HTTP {status}, and not the answer of a Darkroom server")


def test_an_address_where_nobody_answers_is_named(project, darkroom):
    project()
    with other_server(200, b"") as (url, _):
        pass
    refused(darkroom("compare", "--live", url), rf"{url}: no connection; `darkroom serve` prints the address")
    refused(darkroom("compare", "--live", "8000"), r"--live '8000': expected the address of a server, such as http://")


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (None, r"cannot be read \(no such file or directory\)"),
        ("digest,class\nff,cat\n", r"has no column label; expected digest and label"),
        ("digest,label\nff,cat\n", r"row 2: expected 32 hexadecimal digits, got 'ff'"),
        (f"digest,label\n{'f' * 32},cat\n{'F' * 32},dog\n", r"row 3: the image f{32} has two labels, 'cat' and 'dog'"),
        ("\xff", r"no CSV file in UTF-8"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_before_anybody_is_asked(project, darkroom, content, pattern):
    root = project()
    if content is not None:
        (root / "labels").write_text(content, encoding="latin-1")
    refused(darkroom("compare", "--live", "http://127.0.0.1:1", "--labels", "labels"), pattern)


def test_labels_that_a_spreadsheet_has_saved_are_read(project, darkroom, shadowed, tmp_path):
    project()
    saved = tmp_path / "labels"
    labels(saved, "bright", 4)
    saved.write_text(saved.read_text(), encoding="utf-8-sig")
    with address(shadowed) as url:
        code, output, _ = darkroom("compare", "--live", url, "--labels", str(saved))
    assert code == 0
    assert "right on 4 of the 4 pictures" in output


def test_options_that_do_not_belong_together_are_refused(project, darkroom):
    project()
    refused(darkroom("compare", "--labels", "labels"), "--labels: needs --live, the address of the server")
    refused(darkroom("compare", "3", "4", "--live", "http://127.0.0.1:1"), "--live: compares the server's champion")
