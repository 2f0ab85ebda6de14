"""Lines of the server's log look as Python's own formatter writes them."""

import logging

import pytest
from tests.serving.client import TestClient

from darkroom.serving.app import make_app
from darkroom.serving.log import LineFormatter


def line_at(created):
    record = logging.LogRecord("darkroom.serving", logging.INFO, "", 0, "%s %d", ("/readyz", 200), None)
    record.created, record.msecs = created, created % 1 * 1000
    return record


@pytest.mark.parametrize("times", [(1e9, 1e9 + 0.001, 1e9 + 0.9996), (1e9 + 0.5, 1e9 + 1.5, 1e9 + 0.25)])
def test_lines_of_one_second_and_of_others_have_their_times(times):
    ours, pythons = LineFormatter(), logging.Formatter("%(asctime)s %(message)s")

    assert [ours.format(line_at(each)) for each in times] == [pythons.format(line_at(each)) for each in times]


def test_a_traceback_stands_below_its_line():
    record = line_at(1e9)
    try:
        raise ValueError("unlucky")
    except ValueError as problem:
        record.exc_info = (ValueError, problem, problem.__traceback__)

    assert LineFormatter().format(record).endswith("ValueError: unlucky")


@pytest.mark.parametrize(
    "said", ["\x9b2J error: disk full", "192.0.2.1 " * 2000, "a\x85b"], ids=["escape", "long", "line"]
)
def test_what_a_proxy_says_of_its_client_is_one_short_line_of_the_log(service, caplog, said):
    caplog.set_level(logging.INFO, "darkroom.serving")
    with TestClient(make_app(service), client=("127.0.0.1", 5)) as client:
        client.get("/readyz", headers={"x-forwarded-for": said.encode("latin-1")})

    (line,) = [record.getMessage() for record in caplog.records if "/readyz" in record.getMessage()]
    assert line.isprintable()
    assert len(line) < 120
