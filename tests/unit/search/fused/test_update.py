"""One update changes each model, and the state of its optimizer, as that optimizer's own step would."""

from typing import Any

import pytest
import torch
from tests.device.trainings import CARD, SIDE, Rerun, configured
from tests.unit.training.tiny import Scaled, data
from torch import Tensor, nn, optim

from darkroom.config.settings import Augment, Train
from darkroom.data.batches import Split
from darkroom.search.fused.step import FusedStep, StackedSteps
from darkroom.search.fused.update import FusedUpdate
from darkroom.training.fit import start_classifier
from darkroom.training.loop import TrainingLoop
from darkroom.training.muon import Muon, take_together

# Of float64.
CLOSE = {"rtol": 1e-10, "atol": 1e-12}
# What differs from model to model.
OWN: list[dict[str, Any]] = [
    {"lr": 0.01, "weight_decay": 0.1},
    {"lr": 0.003, "clip_norm": 0.5, "momentum": 0.5},
    {"lr": 0.1, "clip_norm": 50.0, "weight_decay": 0.0},
]
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "adam"},
    "adamw": {"optimizer": "adamw"},
    "sgd": {"optimizer": "sgd"},
    "sgd without momentum": {"optimizer": "sgd", "momentum": 0.0},
    "muon": {"optimizer": "muon"},
}


def begin(*settings: dict[str, Any]) -> list[TrainingLoop]:
    """Trainings of models of one shape."""
    loops = []
    for seed, own in enumerate(settings):
        torch.manual_seed(seed)
        layers = [nn.Linear(36, 6), nn.BatchNorm1d(6), nn.Linear(6, 5), nn.Linear(5, 3)]
        model = nn.Sequential(Scaled(), nn.Flatten(), *layers).double()
        given = Train(**{"epochs": 2, "batch_size": 18, "device": "cpu", "precision": "fp32"} | own)
        loops.append(TrainingLoop(model, data(36), data(12), given, Augment(), torch.device("cpu")))
    return loops


def give_gradients(loop: TrainingLoop, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in loop.model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator, dtype=torch.float64)


def tensors(value: Any) -> list[Tensor]:
    """In their order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [tensor for each in value for tensor in tensors(each)]
    return [value] if isinstance(value, Tensor) else []


def state(loop: TrainingLoop) -> list[Tensor]:
    found = [*loop.model.parameters(), *tensors(loop.optimizer.state_dict())]
    return [each.detach().clone() for each in found]


def assert_same(found: TrainingLoop, expected: TrainingLoop) -> None:
    for one, other in zip(state(found), state(expected), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_model_learns_as_with_its_own_optimizer(optimizer: str) -> None:
    settings = [own | OPTIMIZERS[optimizer] for own in OWN]
    together, alone = begin(*settings), begin(*settings)
    update = FusedUpdate(together)
    for step in range(4):
        for number, loop in enumerate((*together, *alone)):
            give_gradients(loop, 10 * step + number % len(OWN))
            loop.schedule.move_to(step)
        update()
        for loop in alone:
            loop.step.update()

    for found, expected in zip(together, alone, strict=True):
        assert_same(found, expected)
        assert not torch.equal(state(found)[0], state(begin(*settings)[0])[0])


def test_models_of_different_optimizers_learn_together() -> None:
    settings = [OWN[number % len(OWN)] | each for number, each in enumerate(OPTIMIZERS.values())]
    together, alone = begin(*settings), begin(*settings)
    update = FusedUpdate(together)
    for step in range(3):
        for loops in (together, alone):
            for number, loop in enumerate(loops):
                give_gradients(loop, 10 * step + number)
        update()
        for loop in alone:
            loop.step.update()

    for found, expected in zip(together, alone, strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_model_that_leaves_goes_on_alone_and_does_not_touch_the_others(optimizer: str) -> None:
    settings = [own | OPTIMIZERS[optimizer] for own in OWN]
    together, alone = begin(*settings), begin(*settings)
    update = FusedUpdate(together)
    for step in range(2):
        for loop in (*together, *alone):
            give_gradients(loop, step)
        update()
        for loop in alone:
            loop.step.update()
    before = state(together[1])
    for loop in (together[0], alone[0]):
        give_gradients(loop, 2)
        loop.step.update()

    assert_same(together[0], alone[0])
    assert all(torch.equal(one, other) for one, other in zip(state(together[1]), before, strict=True))


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_what_has_no_gradient_stays_and_learns_once_it_has(optimizer: str) -> None:
    settings = [own | {"optimizer": optimizer} for own in OWN]
    together, alone = begin(*settings), begin(*settings)
    update = FusedUpdate(together)
    for step in range(5):
        for loop in (*together, *alone):
            give_gradients(loop, step)
        for loops in (together, alone):
            # Of one model alone; the first layer stays at first, the second at the end.
            for weight in loops[1].model[2 if step < 2 else 3].parameters():
                weight.grad = None
        before = state(together[1])
        update()
        for loop in alone:
            loop.step.update()
        kept = [torch.equal(one, other) for one, other in zip(state(together[1])[:4], before[:4], strict=True)]
        assert kept == ([True, True, False, False] if step < 2 else [False, False, True, True])

    for found, expected in zip(together, alone, strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize("is_tensor", [False, True], ids=["numbers", "tensors"])
def test_matrices_of_several_optimizers_are_multiplied_together_as_one_by_one(is_tensor: bool) -> None:
    """As on a GPU: each with its own rate, decay, momentum and number of iterations."""
    own: list[dict[str, Any]] = [
        {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9, "ns_steps": 5},
        {"lr": 0.1, "weight_decay": 0.0, "momentum": 0.0, "ns_steps": 5},
        {"lr": 0.01, "weight_decay": 0.5, "momentum": 0.5, "ns_steps": 3},
    ]
    torch.manual_seed(0)
    begun = [[torch.randn(shape) for shape in [(4, 9), (9, 4), (4, 9)]] for _ in own]
    given = {"adjust_lr_fn": "match_rms_adamw"}
    together = [
        Muon([nn.Parameter(each.clone()) for each in start], nesterov=each["momentum"] > 0, **given | each)
        for start, each in zip(begun, own, strict=True)
    ]
    alone = [
        optim.Muon([nn.Parameter(each.clone()) for each in start], nesterov=each["momentum"] > 0, **given | each)
        for start, each in zip(begun, own, strict=True)
    ]
    for step in range(2):
        for number, pair in enumerate(zip(together, alone, strict=True)):
            for optimizer in pair:
                generator = torch.Generator().manual_seed(10 * step + number)
                for matrix in optimizer.param_groups[0]["params"]:
                    matrix.grad = torch.randn(matrix.shape, generator=generator)
        if is_tensor:
            for optimizer in together:
                optimizer.param_groups[0]["lr"] = torch.as_tensor(optimizer.param_groups[0]["lr"])
        with torch.no_grad():
            take_together(together)
        for optimizer in alone:
            optimizer.step()

    for one, other, start in zip(together, alone, begun, strict=True):
        for found, expected, old in zip(
            one.param_groups[0]["params"], other.param_groups[0]["params"], start, strict=True
        ):
            # In bfloat16 the order of summation decides the last of eight bits.
            assert (found - expected).norm() < 0.01 * (expected - old).norm()


# --- on a device that is made up ---------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("model", ["mlp", "fast-cnn"])
def test_a_fused_step_on_a_gpu_stays_on_it_and_reads_nothing_from_it(
    gpu: torch.device, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, kernels = [], []

    def make_state(optimizer: optim.Optimizer) -> None:
        """What a first step of torch's own makes."""
        steps.append(optimizer)
        for group in optimizer.param_groups:
            for weight in group["params"]:
                zeros = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq", "momentum_buffer")}
                optimizer.state[weight].update(zeros, step=torch.zeros((), device=gpu))

    def kernel(weights: list[Tensor], gradients: list[Tensor], *others: list[Tensor], **settings: Any) -> None:
        kernels.append(settings["lr"])
        for each in (weights, gradients, *(other for other in others if other)):
            assert len(each) == len(weights)
            assert all(tensor.device == gpu for tensor in each)

    def backward(loss: Tensor) -> None:
        """torch's own asks for the device's streams. What it does is no code of ours."""
        assert loss.device == gpu
        for weight in [*step.model.parameters(), *(each for loop in loops for each in loop.model.parameters())]:
            weight.grad = torch.zeros_like(weight)

    for name in ("Adam", "AdamW", "SGD"):
        monkeypatch.setattr(getattr(optim, name), "step", make_state)
    for name in ("_fused_adam_", "_fused_adamw_", "_fused_sgd_"):
        monkeypatch.setattr(torch, name, kernel)
    monkeypatch.setattr(Tensor, "backward", backward)
    images = torch.zeros((24, 1, SIDE, SIDE), dtype=torch.uint8, device=gpu)
    split = Split(images, torch.zeros(24, dtype=torch.int64, device=gpu))
    loops = []
    for number, (optimizer, clip_norm) in enumerate(
        zip(("adam", "adamw", "sgd", "muon"), (None, 1.0, None, 2.0), strict=True)
    ):
        config = configured(gpu, model, train__optimizer=optimizer, train__clip_norm=clip_norm, train__seed=number)
        with gpu:
            classifier = start_classifier(config, CARD, split, gpu)
        loops.append(TrainingLoop(classifier, split, split, config.train, config.augment, gpu))
    step = FusedStep(loops, [torch.Generator(gpu) for _ in loops])
    taken = StackedSteps(step, Rerun())
    taken.buffers.bind_rates()

    for _ in range(3):
        taken.take_step(8)

    assert len(steps) == len(loops)  # once each: of muon's two parts AdamW
    assert len(kernels) == 2 * len(loops)
