"""Trainings on the device: the same bits again, fused as alone, captured as step by step, from the host as from it."""

import copy
from typing import Any

import pytest
import torch
from tests.conftest import TEST_DEVICE
from tests.device.trainings import MODELS, Rerun, begin, configured, error, weights

from darkroom.search.fused.loop import FusedLoop
from darkroom.training.cuda_graph import CudaGraphs, Recorder
from darkroom.training.loop import TrainingLoop

EPOCHS = 2
# After some steps in float32, whose sums have another order.
CLOSE = 1e-3
# What rounding alone can grow to in two epochs: weights that differ by 1e-7 at first differ by 2e-3 in fast-cnn, and
# with Muon, which multiplies in bf16, by 3e-3 in wide-resnet. The training itself changes them by 1e-2 to 0.3.
ROUGHLY = 5e-3
OPTIMIZERS = ("adam", "adamw", "sgd", "muon")
# On a CPU, where other tests have all of it, each architecture with one of them.
PAIRS = [
    pytest.param(model, optimizer, marks=() if TEST_DEVICE != "cpu" or (row - column) % 4 == 0 else pytest.mark.long)
    for row, model in enumerate(MODELS)
    for column, optimizer in enumerate(OPTIMIZERS)
]
# Not fused: the layers of a pretrained model learn from epochs of their own.
PRETRAINED_PAIRS = [("pretrained", optimizer) for optimizer in OPTIMIZERS]
CHANGED: dict[str, Any] = {
    "train__ema": 0.9, "augment__flip": "alternating", "augment__translate": 2, "augment__mixup": 0.5,
    "augment__erasing": 0.5, "train__schedule": "one-cycle", "model__dropout": 0.3,
}  # fmt: skip


def trained(loop: TrainingLoop, epochs: int = EPOCHS, recorder: Recorder | None = None) -> TrainingLoop:
    if recorder:
        loop.capture(recorder)
        assert loop.captured, loop.result.notes
    while len(loop.result.history) < epochs:
        loop.run_epoch()
    return loop


@pytest.fixture
def recorder(device) -> Recorder:
    return CudaGraphs() if device.type == "cuda" else Rerun()


@pytest.mark.parametrize("model", ["mlp", "simple-cnn", "fast-cnn", "pretrained"])
@pytest.mark.parametrize("is_captured", [False, True], ids=["step by step", "captured"])
def test_the_same_training_gives_the_same_bits(device, recorder, model: str, is_captured: bool) -> None:
    config = configured(device, model, train__deterministic=True, **CHANGED)
    one, other = (trained(begin(config, device), recorder=recorder if is_captured else None) for _ in range(2))

    assert torch.equal(weights(one), weights(other))


@pytest.mark.parametrize(("model", "optimizer"), [*PAIRS, *PRETRAINED_PAIRS])
def test_a_captured_training_learns_what_one_step_by_step_learns(device, recorder, model: str, optimizer: str) -> None:
    config = configured(device, model, train__optimizer=optimizer, **CHANGED | {"model__dropout": 0.0})
    expected, found = trained(begin(config, device)), trained(begin(config, device), recorder=recorder)

    assert error(weights(found), weights(expected)) < CLOSE
    assert found.result.history[-1].train_loss == pytest.approx(expected.result.history[-1].train_loss, rel=CLOSE)


@pytest.mark.parametrize("is_captured", [False, True], ids=["step by step", "captured"])
@pytest.mark.parametrize("model", ["simple-cnn", "pretrained"])
def test_a_training_that_was_interrupted_ends_with_the_same_bits(
    device, recorder, model: str, is_captured: bool
) -> None:
    config = configured(device, model, train__deterministic=True, **CHANGED)
    given = recorder if is_captured else None
    whole = trained(begin(config, device), 3, given)
    state = copy.deepcopy(trained(begin(config, device), 1, given).state())
    resumed = begin(config, device)
    resumed.load_state(state)

    assert torch.equal(weights(trained(resumed, 3, given)), weights(whole))


@pytest.mark.parametrize("is_captured", [False, True], ids=["step by step", "captured"])
@pytest.mark.parametrize(("model", "optimizer"), PAIRS)
def test_trainings_as_one_program_learn_what_each_learns_alone(
    device, recorder, model: str, optimizer: str, is_captured: bool
) -> None:
    settings = {"train__optimizer": optimizer, "model__dropout": 0.0}
    configs = [
        configured(device, model, train__seed=seed, train__lr=0.002 * (seed + 1), **settings) for seed in range(3)
    ]
    together: FusedLoop[int] = FusedLoop(recorder if is_captured else None)
    for name, config in enumerate(configs):
        together.add(name, begin(config, device))
    for _ in range(EPOCHS):
        together.run_epoch()

    bound = CLOSE if device.type == "cpu" and optimizer != "muon" else ROUGHLY
    for name, config in enumerate(configs):
        alone = trained(begin(config, device))
        assert error(weights(together.loops[name]), weights(alone)) < bound


def test_a_split_in_the_hosts_memory_is_trained_on_as_one_on_the_device(device) -> None:
    config = configured(device, "fast-cnn", train__deterministic=True, augment__flip="alternating", augment__mixup=0.5)
    there, here = trained(begin(config, device)), trained(begin(config, device, on_host=True))

    assert torch.equal(weights(here), weights(there))


def test_memory_that_does_not_suffice_for_all_leaves_a_usable_process(device) -> None:
    if device.type != "cuda":
        pytest.skip("the memory of a GPU can be limited")
    torch.cuda.empty_cache()
    config = configured(device, "simple-cnn")
    together: FusedLoop[int] = FusedLoop()
    for name in range(8):
        wide = config.with_settings({"train.seed": name, "model.filters": [64, 64], "model.hidden": [1024]})
        together.add(name, begin(wide, device))
    used = torch.cuda.memory_allocated() + (64 << 20)
    torch.cuda.set_per_process_memory_fraction(used / torch.cuda.get_device_properties(device).total_memory)
    try:
        found = together.run_epoch()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

    assert len(found) == 8
    assert len(trained(begin(config, device)).result.history) == EPOCHS
