"""The bounds of connections: who sends too much, too slowly, or holds too many, and what others notice of it."""

import json
import select
import socket
import threading
from base64 import b64encode

import pytest
from tests.serving.fakes import brightness, make_loaded, png
from tests.serving.running import connect, read, running
from tests.wait import wait_until

from darkroom.serving.connections import KEPT_DESCRIPTORS, MAX_PIPELINED, Connections

BODY = json.dumps({"images": [b64encode(png(20)).decode()]}).encode()
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def head(length, *lines):
    """The header of a prediction."""
    fields = [b"Host: localhost", b"Content-Type: application/json", b"Content-Length: %d" % length, *lines]
    return b"POST /v1/predict HTTP/1.1\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def ask(address, **arguments):
    """The status of a prediction on a connection of its own."""
    return status(read(connect(address, head(len(BODY), b"Connection: close") + BODY, **arguments)))


def status(received):
    return int(received.split(b" ", 2)[1])


def is_open(connection):
    """Whether the server has neither answered nor ended it."""
    return not select.select([connection], [], [], 0)[0]


@pytest.fixture
def held_model():
    """A model that answers when the event is set."""
    goes_on = threading.Event()

    def infer(images):
        goes_on.wait()
        return brightness(images)

    yield make_loaded(infer=infer, seconds=1), goes_on
    goes_on.set()


@pytest.mark.parametrize(
    "content",
    [
        b"GET /" + b"a" * 40_000,
        b"GET / HTTP/1.1\r\nx: " + b"a" * 40_000,
        b"\r\n" * 20_000,
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
        head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"1;" + b"a" * 600_000,
        head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"0\r\nx: " + b"a" * 600_000,
    ],
    ids=["line", "field", "empty lines", "fields", "chunk", "trailer"],
)
def test_a_header_without_end_is_refused_whatever_it_is_made_of(service, content):
    with running(service) as (address, _):
        refused = read(connect(address, content))
        assert status(refused) == 431
        assert json.loads(refused.partition(b"\r\n\r\n")[2]) == {
            "detail": "the header is larger than 32 kB, the most that is read"
        }
        assert ask(address) == 200
    assert b'refused_connections_total{status="431"} 1.0' in service.metrics.text(None)


@pytest.mark.parametrize("part", [GET[:-2], head(100) + b"{", head(9_000_000) + b" " * 500_000])
def test_who_stops_within_a_request_is_told_so_after_the_deadline(make_service, part):
    service = make_service(header_seconds=0.2, body_seconds=0.2)
    with running(service) as (address, _):
        assert status(read(connect(address, part))) == 408
        assert ask(address) == 200


def test_a_header_that_comes_byte_by_byte_has_no_more_time(make_service):
    with running(make_service(header_seconds=0.3)) as (address, _), connect(address) as slow:
        slow.sendall(GET[:-2] + b"x: ")
        for _ in range(10_000):
            slow.sendall(b"a")
            if select.select([slow], [], [], 0.01)[0]:
                break
        assert status(read(slow)) == 408


@pytest.mark.parametrize("before", [b"", GET])
def test_a_connection_that_asks_nothing_is_ended_without_a_word(make_service, before):
    with running(make_service(header_seconds=0.2, keep_alive_seconds=1)) as (address, _):
        received = read(connect(address, before))
    assert received.count(b"HTTP/1.1") == (before != b"")


def test_a_client_that_does_not_read_its_answer_is_left(make_service):
    with running(make_service(body_seconds=0.2)) as (address, server):
        script = GET.replace(b"/healthz", b"/docs/static/swagger-ui-bundle.js")
        with connect(address, script * MAX_PIPELINED):
            wait_until(lambda: server.server_state.connections, "the connection was made")
            wait_until(lambda: not server.server_state.connections, "the server left it")


def test_the_connection_that_waits_longest_gives_its_place(make_service):
    with running(make_service(max_connections=4)) as (address, server):
        many = []
        for number in range(8):
            many.append(connect(address, head(10) if number % 2 else b""))
            wait_until(lambda: server.server_state.connections, "it was made")
            assert ask(address) == 200
        answers = [b"" if is_open(each) else read(each) for each in many]
        assert [is_open(each) for each in many[-3:]] == [True] * 3
        assert {status(answer) for answer in answers if answer} == {503}
        for each in many:
            each.close()


def test_where_all_work_a_further_connection_is_refused(make_service, held_model):
    loaded, goes_on = held_model
    service = make_service(loaded, max_connections=2)
    with running(service) as (address, _):
        working = [connect(address, head(len(BODY), b"Connection: close") + BODY) for _ in range(2)]
        wait_until(lambda: service._waiting == 2, "both are in the queue")
        refused = read(connect(address, GET))
        goes_on.set()
        assert [status(read(each)) for each in working] == [200, 200]
        assert ask(address) == 200
    assert status(refused) == 503
    assert b"retry-after: 1" in refused


def test_an_address_takes_the_places_of_no_other(make_service):
    with running(make_service(max_connections_per_address=3)) as (address, _):
        try:
            others = [connect(address, source="127.0.0.2")]
        except OSError:
            pytest.skip("loopback has one address here")
        mine = [connect(address) for _ in range(9)]
        assert ask(address) == ask(address, source="127.0.0.2") == 200
        assert is_open(others[0])
        ended = [each for each in mine if not is_open(each)]
        assert len(ended) >= 6
        for each in [*mine, *others]:
            each.close()


def test_bodies_that_do_not_end_hold_no_more_than_their_bound(make_service):
    service = make_service(max_request_mb=1, max_bodies_mb=1)
    with running(service) as (address, server):
        small = connect(address, head(1000) + b" " * 500)
        large = [connect(address, head(900_000) + b" " * 700_000) for _ in range(4)]
        told = [read(each) for each in large[:3] if select.select([each], [], [], 10)[0]]
        assert {status(each) for each in told} == {503}
        assert is_open(small)
        assert ask(address) == 200
        connections = server.config.http_protocol_class.__self__
        assert connections.bytes <= 1_000_000
        for each in [small, *large]:
            each.close()
        wait_until(lambda: connections.bytes == 0, "the bytes were given back")


def test_bytes_are_held_until_the_answer_and_not_longer(make_service, held_model):
    loaded, goes_on = held_model
    service = make_service(loaded)
    with running(service) as (address, server):
        connections = server.config.http_protocol_class.__self__
        with connect(address, head(len(BODY)) + BODY) as asking:
            wait_until(lambda: service._waiting == 1, "it is in the queue")
            assert connections.bytes == len(BODY)
            goes_on.set()
            assert status(asking.recv(1 << 16)) == 200
            assert connections.bytes == 0


def test_requests_that_wait_for_each_other_on_one_connection_are_few(service):
    with running(service) as (address, _):
        few = connect(address, GET * MAX_PIPELINED)
        few.shutdown(socket.SHUT_WR)
        assert read(few).count(b"HTTP/1.1 200") >= 1
        many = read(connect(address, GET * 5000))
        assert many.count(b"HTTP/1.1 200") <= MAX_PIPELINED + 1
        assert ask(address) == 200


def test_connections_leave_file_descriptors_to_others(make_service, monkeypatch):
    service = make_service(max_connections=5000)
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 4096))
    assert Connections(service.settings, service.metrics).max_connections == 256 - KEPT_DESCRIPTORS


def test_a_request_that_never_fits_is_refused_as_a_setting(make_service):
    with pytest.raises(ValueError, match="a request of 100 MB never fits max_bodies_mb, 64 MB"):
        make_service(max_request_mb=100)


def test_a_connection_that_was_accepted_before_the_end_has_its_first_request_answered(service):
    with running(service) as (address, server):
        ask(address)
        begun = connect(address, GET[:10])
        wait_until(lambda: len(server.server_state.connections) == 1, "the connection was accepted")
        server.should_exit = True
        wait_until(lambda: not server.servers[0].is_serving(), "the server accepts no more")
        begun.sendall(GET[10:])
        received = read(begun)
    assert status(received) == 200
    assert b"connection: close" in received.lower()
