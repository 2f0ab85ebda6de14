"""Trainings whose steps are captured together learn what each learns alone, whichever kind of step is taken."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tests.device.trainings import Rerun, begin, configured, error, weights
from torch import Generator

from darkroom.search.fused.loop import FusedLoop
from darkroom.search.fused.step import StackedSteps
from darkroom.training.cuda_graph import CapturedSteps, SeparateSteps
from darkroom.training.loop import TrainingLoop

CPU = torch.device("cpu")
KINDS = {"stacked": StackedSteps, "separate": SeparateSteps}
# Captured rates are float32, and stacked layers sum up in another order; Muon computes in bfloat16.
CLOSE = 1e-4
OWN: list[dict[str, Any]] = [
    {"train__optimizer": "adamw", "train__lr": 0.003, "augment__flip": "alternating"},
    {"train__optimizer": "sgd", "train__clip_norm": 0.5, "train__label_smoothing": 0.1, "train__epochs": 2},
    {"train__optimizer": "adam", "train__ema": 0.9, "augment__mixup": 0.5, "train__schedule": "linear"},
]


def start(model: str, number: int) -> TrainingLoop:
    return begin(configured(CPU, model, train__seed=number, model__dropout=0.0, **OWN[number]), CPU)


def prefer(kind: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let one kind of step seem the faster one. Returns the kinds whose epochs are run, as they are run."""
    run_epoch, found = CapturedSteps.run_epoch, []

    def seconds(captured: CapturedSteps) -> float:
        return 1.0 if isinstance(captured.steps, KINDS[kind]) else 2.0

    def run(captured: CapturedSteps, *given: Any) -> Any:
        found.append(next(name for name, of_kind in KINDS.items() if isinstance(captured.steps, of_kind)))
        return run_epoch(captured, *given)

    monkeypatch.setattr(CapturedSteps, "seconds", seconds)
    monkeypatch.setattr(CapturedSteps, "run_epoch", run)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["mlp", "simple-cnn", "fast-cnn"])
def test_each_learns_what_it_learns_alone_though_others_come_and_go(
    model: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {}
    for number in range(3):
        loop = start(model, number)
        while not loop.finished:
            loop.run_epoch()
        expected[number] = loop
    run = prefer(kind, monkeypatch)
    together: FusedLoop[int] = FusedLoop(Rerun())
    found = {number: start(model, number) for number in range(3)}
    for number in (0, 1):
        together.add(number, found[number])
    together.run_epoch()
    together.add(2, found[2])  # when the others are half way
    while together.loops:
        together.run_epoch()
        for number in [number for number, loop in together.loops.items() if loop.finished]:
            together.remove(number)

    assert run == [kind] * 4
    for number, loop in expected.items():
        assert error(weights(found[number]), weights(loop)) < CLOSE
        for one, other in zip(found[number].result.history, loop.result.history, strict=True):
            assert one.train_loss == pytest.approx(other.train_loss, rel=CLOSE)
            assert (one.lr, one.train_accuracy) == (pytest.approx(other.lr), other.train_accuracy)


def test_both_kinds_are_timed_and_nothing_is_learned_meanwhile() -> None:
    together: FusedLoop[int] = FusedLoop(Rerun())
    loops = [start("mlp", number) for number in range(3)]
    before = [weights(loop) for loop in loops]
    for number, loop in enumerate(loops):
        together.add(number, loop)
    (program,) = together._divide(list(together.loops))
    for loop in loops:
        loop.begin_epoch()
    program._prepare()

    assert set(program.step_seconds) == set(KINDS)
    assert all(seconds > 0 for seconds in program.step_seconds.values())
    assert all(torch.equal(weights(loop), each) for loop, each in zip(loops, before, strict=True))


def test_steps_that_cannot_be_captured_are_taken_one_by_one_and_it_is_noted() -> None:
    class Refusing(Rerun):
        def record(self, work: Callable[[], None], generators: Sequence[Generator]) -> Callable[[], None]:
            raise RuntimeError("operation not permitted when stream is capturing")

    captured: FusedLoop[int] = FusedLoop(Refusing())
    plain: FusedLoop[int] = FusedLoop()
    for together in (captured, plain):
        for number in range(2):
            together.add(number, start("mlp", number))
        together.run_epoch()

    for number in range(2):
        one, other = captured.loops[number], plain.loops[number]
        assert torch.equal(weights(one), weights(other))
        note = "steps are slower, as they are not captured: operation not permitted when stream is capturing"
        assert set(one.result.notes) == {note}


def test_trainings_whose_images_are_not_on_the_device_are_not_captured() -> None:
    recorder = Rerun()
    together: FusedLoop[int] = FusedLoop(recorder)
    loop = start("mlp", 0)
    together.add(0, loop)
    (program,) = together._divide([0])
    loop.device = torch.device("cuda")
    program._prepare()

    assert (recorder.recorded, program.step_seconds) == (0, {})
