"""Latency is measured of models in turn, after a warm-up, and told as percentiles."""

import pytest
import torch

from darkroom.evaluation import latency
from darkroom.evaluation.latency import CALLS, LARGE_BATCH, ROUNDS, WARM_UP_CALLS, latencies, throughputs


class Clock:
    """Time goes on only while a model computes: ``seconds`` gives those of each call, by its number."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def model(self, name, seconds):
        def compute(images):
            number = sum(each[0] == name for each in self.calls)
            self.calls.append((name, images.dtype, tuple(images.shape), torch.is_grad_enabled()))
            self.now += seconds(number)
            return images

        return compute


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latency, "perf_counter", lambda: clock.now)
    return clock


def test_each_model_is_asked_for_one_image_in_turn(clock):
    models = [clock.model(name, lambda number: 0.001) for name in "ab"]

    latencies(models, (3, 4, 5))

    turn = WARM_UP_CALLS + CALLS
    assert "".join(name for name, *_ in clock.calls) == ("a" * turn + "b" * turn) * ROUNDS
    assert {tuple(how) for _, *how in clock.calls} == {(torch.uint8, (1, 3, 4, 5), False)}


def test_latency_is_the_median_and_the_slowest_twentieth_without_the_warm_up(clock):
    def seconds(number):
        position = number % (WARM_UP_CALLS + CALLS) - WARM_UP_CALLS
        return 1.0 if position < 0 else (position + 1) / 1000

    found = latencies([clock.model("a", seconds), clock.model("b", lambda number: 0.002)], (1, 2, 2))

    # Each turn takes 1, 2, ..., 40 milliseconds.
    assert found[0].p50_ms == pytest.approx(20.5)
    assert 38 <= found[0].p95_ms <= 39
    assert (found[1].p50_ms, found[1].p95_ms) == pytest.approx((2.0, 2.0))
    assert found[0].threads == torch.get_num_threads()


def test_throughput_is_of_a_large_batch(clock):
    found = throughputs([clock.model("a", lambda number: 0.5), clock.model("b", lambda number: 0.25)], (1, 2, 2))

    assert found == pytest.approx([2 * LARGE_BATCH, 4 * LARGE_BATCH])
    assert {shape for _, _, shape, _ in clock.calls} == {(LARGE_BATCH, 1, 2, 2)}
