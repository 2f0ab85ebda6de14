"""What the processes of a server divide, and the window of answers that they share."""

import numpy as np
import pytest

from darkroom.config.settings import Serve
from darkroom.serving.share import cores, share
from darkroom.serving.window import Window


def test_one_process_takes_everything(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert share(Serve()) == Serve()
    assert cores(Serve()) == 6


def test_memory_queue_and_cores_are_divided(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    whole = Serve(processes=2, queue=1000, max_bodies_mb=64)
    part = share(whole)
    assert (part.queue, part.max_bodies_mb, cores(whole)) == (500, 32, 3)
    assert part.max_connections == whole.max_connections


@pytest.mark.parametrize("processes", [8, 200])
def test_the_largest_request_fits_each_of_many_processes(monkeypatch, processes):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    whole = Serve(processes=processes, queue=100, max_images=64, max_bodies_mb=20, max_request_mb=16)
    part = share(whole)
    assert (part.queue, part.max_bodies_mb, cores(whole)) == (64, 16, 1)


def answers(*labels):
    return np.array(labels), np.array(labels) / 10, np.array(labels) > 4, np.array(labels) * 2


def test_all_who_open_the_file_of_a_window_see_the_latest_answers_of_all(tmp_path):
    first, second = (Window(4, tmp_path / "window") for _ in range(2))
    first.add(*answers(1, 2))
    second.add(*answers(3, 4))
    first.add(*answers(5))
    for window in (first, second, Window(4, tmp_path / "window")):
        assert sorted(window.labels) == [2, 3, 4, 5]
        assert sorted(window.confidences) == pytest.approx([0.2, 0.3, 0.4, 0.5])
        assert window.unlike.sum() == 1
        assert sorted(window.set_sizes) == [4, 6, 8, 10]


def test_windows_of_other_files_are_apart(tmp_path):
    first, second = Window(4, tmp_path / "first"), Window(4, tmp_path / "second")
    first.add(*answers(1, 2))
    assert (len(first), len(second)) == (2, 0)
