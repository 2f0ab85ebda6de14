"""Lines of the server's log look as Python's own formatter writes them."""

import logging

import pytest

from darkroom.serving.server import LineFormatter


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
