"""Worker processes: they do what one process does, and end with the one that started them."""

import multiprocessing
import signal

import pytest

from darkroom.data.decoding import processes


@pytest.mark.parametrize("count", [0, 2])
def test_results_come_in_the_order_of_the_work(count):
    with processes(count) as spread:
        assert list(spread(divmod, range(50), [7] * 50)) == [divmod(number, 7) for number in range(50)]


def test_ctrl_c_is_left_to_the_parent():
    with processes(1) as spread:
        assert list(spread(signal.getsignal, [signal.SIGINT])) == [signal.SIG_IGN]


def interrupted(results):
    next(results)
    raise KeyboardInterrupt


def test_an_interruption_ends_the_workers():
    before = set(multiprocessing.active_children())
    with pytest.raises(KeyboardInterrupt), processes(2) as spread:
        interrupted(spread(abs, range(1000)))
    assert set(multiprocessing.active_children()) == before
