"""Latency is measured of models in turn, after a warm-up, and told as percentiles."""

import pytest
import torch

from darkroom.evaluation import latency
from darkroom.evaluation.latency import CALLS, LARGE_BATCH, ROUNDS, TURN_MS, WARM_UP_CALLS, latencies, throughputs


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
        return 0.05 if position < 0 else (position + 1) / 10_000

    found = latencies([clock.model("a", seconds), clock.model("b", lambda number: 0.002)], (1, 2, 2))

    # Each turn takes 0.1, 0.2, ..., 10 milliseconds.
    assert found[0].p50_ms == pytest.approx(5.05)
    assert 9.5 <= found[0].p95_ms <= 9.6
    assert (found[1].p50_ms, found[1].p95_ms) == pytest.approx((2.0, 2.0))
    assert found[0].threads == torch.get_num_threads()


def test_a_slow_model_is_asked_less_often_but_in_every_turn(clock):
    slow, quick = clock.model("slow", lambda number: 0.125), clock.model("quick", lambda number: 0.001)

    found = latencies([slow, quick], (1, 2, 2))

    names = [name for name, *_ in clock.calls]
    assert names.count("slow") == ROUNDS * TURN_MS / 125
    assert names.count("quick") == ROUNDS * (WARM_UP_CALLS + CALLS)
    assert [each.p50_ms for each in found] == pytest.approx([125.0, 1.0])


def test_models_that_take_minutes_have_one_turn_of_two_calls_of_which_one_counts(clock):
    models = [clock.model(name, lambda number: 90.0 if number else 120.0) for name in "ab"]

    found = latencies(models, (1, 2, 2))

    assert [name for name, *_ in clock.calls] == ["a", "a", "b", "b"]
    assert [each.p50_ms for each in found] == pytest.approx([90_000.0, 90_000.0])


def test_throughput_is_of_a_large_batch(clock):
    found = throughputs([clock.model("a", lambda number: 0.125), clock.model("b", lambda number: 0.0625)], (1, 2, 2))

    assert found == pytest.approx([8 * LARGE_BATCH, 16 * LARGE_BATCH])
    assert {shape for _, _, shape, _ in clock.calls} == {(LARGE_BATCH, 1, 2, 2)}
