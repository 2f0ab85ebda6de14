"""A step on the device has the loss and the gradients of one in float64 on a CPU, and the host does not wait."""

import copy
from typing import Any

import pytest
import torch
from tests.device.trainings import ALL_MODELS, begin, configured, error, images

from darkroom.config.settings import Augment
from darkroom.data.augmentation.mixing import Target, mix
from darkroom.search.fused.step import FusedStep
from darkroom.training.cuda_graph import CudaGraphs, SeparateSteps
from darkroom.training.ema import MovingAverage
from darkroom.training.step import TrainStep

CPU = torch.device("cpu")
# Of float32, in which sums have another order.
CLOSE = 1e-4
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "mixup": {"augment__mixup": 0.8},
    "cutmix": {"augment__cutmix": 1.0},
    "mixed": {"augment__mixup": 0.8, "augment__cutmix": 1.0},
    "balanced": {"train__class_weights": "balanced", "train__label_smoothing": 0.1},
    "clipped": {"train__clip_norm": 0.01},
    "parts": {"train__accumulate": 2},
    "averaged": {"train__ema": 0.9},
}


def mixed(settings: Augment) -> tuple[torch.Tensor, Target]:
    """A batch as it is trained on, drawn on the CPU."""
    batch = images(8, 5)
    if settings.mixup or settings.cutmix:
        return mix(batch.images, batch.labels, settings, torch.Generator().manual_seed(3))
    return batch.images, Target(batch.labels)


def moved(batch: tuple[torch.Tensor, Target], device: torch.device) -> tuple[torch.Tensor, Target]:
    pixels, target = batch
    parts = (target.labels, target.partners, target.share)
    return pixels.to(device), Target(*(part if part is None else part.to(device) for part in parts))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("model", ALL_MODELS)
def test_loss_and_gradients_are_those_of_float64(device, model: str, case: str, monkeypatch) -> None:
    config = configured(device, model, **CASES[case])
    loop = begin(config, device)
    exact = copy.deepcopy(loop.model).cpu().double()
    reference = TrainStep(
        exact, torch.optim.SGD(exact.parameters(), 0.0), images(20, 0), config.train, config.augment, CPU, "fp32"
    )
    batch = mixed(config.augment)
    found = []
    for step, given in ((loop.step, moved(batch, device)), (reference, batch)):
        monkeypatch.setattr(step, "mixed", lambda *_, given=given: given)
        step.model.train()
        loss, correct = step(given[0], given[1].labels, torch.Generator())
        gradients = torch.cat([weight.grad.flatten() for weight in step.model.parameters() if weight.grad is not None])
        found.append((loss.item(), correct.item(), gradients))

    (loss, correct, gradients), (expected_loss, expected_correct, expected) = found
    assert loss == pytest.approx(expected_loss, rel=CLOSE)
    assert correct == expected_correct
    assert error(gradients, expected) < CLOSE


@pytest.mark.parametrize("model", ALL_MODELS)
def test_the_average_follows_the_weights(device, model: str) -> None:
    loop = begin(configured(device, model), device)
    average = MovingAverage(loop.model, 0.75)
    expected: torch.Tensor | None = None
    for seed in range(3):
        batch = images(8, seed)
        loop.step(batch.images.to(device), batch.labels.to(device), loop.batches.augment_generator)
        average.update()
        now = torch.cat([each.detach().flatten() for each in loop.model.parameters()]).cpu().double()
        expected = now if expected is None else 0.75 * expected + 0.25 * now

    assert expected is not None
    assert error(torch.cat([each.flatten() for each in average.model.parameters()]), expected) < CLOSE


@pytest.fixture
def no_waiting(device):
    """An error where the host waits for the device, on a GPU."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "muon"])
def test_a_step_does_not_wait(device, optimizer: str, case: str, request) -> None:
    loop = begin(configured(device, "fast-cnn", train__optimizer=optimizer, **CASES[case]), device)
    steps = SeparateSteps([loop], CudaGraphs())
    steps.buffers.bind_rates()
    steps.take_step(8)  # what is looked up once is now known
    request.getfixturevalue("no_waiting")
    steps.take_step(8)


def test_a_fused_step_does_not_wait(device, request) -> None:
    settings = {"train__class_weights": "balanced", "augment__mixup": 0.5}
    loops = [begin(configured(device, "simple-cnn", train__seed=seed, **settings), device) for seed in range(3)]
    step = FusedStep(loops, [torch.Generator(device) for _ in loops])
    rows = torch.arange(8, device=device)
    batches = [loop.batches.take(rows, odd=False) for loop in loops]
    images, labels = (torch.stack(each) for each in zip(*batches, strict=True))
    step(images, labels)
    request.getfixturevalue("no_waiting")
    step(images, labels)
