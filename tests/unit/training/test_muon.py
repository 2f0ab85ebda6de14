"""Muon for matrices and filters, AdamW for the rest: together what torch's two do side by side."""

import copy
import io
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from darkroom.config.settings import Train
from darkroom.models.network import Network
from darkroom.training.muon import Muon, MuonAdamW, orthogonalize, take_together
from darkroom.training.optimizers import build_optimizer
from darkroom.training.schedule import Schedule

LR = 0.02
MOMENTUM = 0.9
DECAY = 0.1
ITERATIONS = 5
LAYOUTS = [torch.contiguous_format, torch.channels_last]
LAYOUT_NAMES = ["rows first", "channels last"]


def dense() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def convolutional() -> nn.Sequential:
    """Gray images, filters of one pixel, of a row, and depthwise: where layouts in memory are easily confused."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.Conv2d(6, 8, 1),
        nn.Conv2d(8, 5, (1, 3)),
        nn.Conv2d(5, 7, 3, bias=False),
        nn.Conv2d(7, 7, 2, groups=7),
        nn.Flatten(),
        nn.Linear(7, 3),
    )


def combined(model: nn.Module, momentum: float = MOMENTUM) -> MuonAdamW:
    return MuonAdamW([{"params": list(model.parameters()), "lr": LR}], LR, momentum, DECAY, ITERATIONS)


def muon(matrices: Iterable[Tensor], momentum: float = MOMENTUM, lr: float = LR) -> optim.Muon:
    return optim.Muon(matrices, lr, DECAY, momentum, nesterov=momentum > 0, adjust_lr_fn="match_rms_adamw")


def adamw(parameters: Iterable[Tensor], lr: float = LR) -> optim.AdamW:
    return optim.AdamW(parameters, lr, weight_decay=DECAY, foreach=False)


def parted(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The dense weights but the last, and the rest."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2][:-1]
    return matrices, [parameter for parameter in model.parameters() if all(parameter is not each for each in matrices)]


def gradients(model: nn.Module, seed: int) -> Iterator[tuple[nn.Parameter, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        yield parameter, torch.randn(parameter.shape, generator=generator)


def take(model: nn.Module, *optimizers: optim.Optimizer, seed: int) -> None:
    """A step along gradients that the seed decides."""
    for parameter, gradient in gradients(model, seed):
        parameter.grad = gradient
    for optimizer in optimizers:
        optimizer.step()


def assert_same(found: nn.Module, expected: nn.Module) -> None:
    for (name, one), other in zip(found.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7, msg=name)


def weights(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


# --- what goes where ---------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [MOMENTUM, 0.5, 0.0])
def test_dense_weights_but_the_last_take_torchs_muon_and_the_rest_adamw(momentum: float) -> None:
    found, expected = dense(), dense()
    matrices, rest = parted(expected)
    assert (len(matrices), len(rest)) == (2, 4)
    optimizer, references = combined(found, momentum), (muon(matrices, momentum), adamw(rest))

    for seed in range(4):
        take(found, optimizer, seed=seed)
        take(expected, *references, seed=seed)

    assert_same(found, expected)


def test_the_settings_reach_both() -> None:
    settings = Train(optimizer="muon", lr=LR, momentum=0.7, weight_decay=DECAY)
    found, expected = dense(), dense()
    matrices, rest = parted(expected)
    optimizer, references = build_optimizer(found, settings), (muon(matrices, 0.7), adamw(rest))

    for seed in range(3):
        take(found, optimizer, seed=seed)
        take(expected, *references, seed=seed)

    assert_same(found, expected)


@pytest.mark.parametrize(
    "make",
    [lambda: nn.Linear(4, 3), lambda: nn.Conv2d(2, 3, 3), lambda: nn.BatchNorm1d(4)],
    ids=["dense", "filters", "none"],
)
def test_with_one_matrix_or_none_everything_is_adamws(make) -> None:
    torch.manual_seed(0)
    found: nn.Module = make()
    expected = copy.deepcopy(found)
    optimizer, reference = combined(found), adamw(expected.parameters())

    for seed in range(3):
        take(found, optimizer, seed=seed)
        take(expected, reference, seed=seed)

    assert_same(found, expected)


def test_matrices_alone_are_a_model_too() -> None:
    found = nn.Sequential(nn.Linear(4, 6, bias=False), nn.Linear(6, 3, bias=False))
    expected = copy.deepcopy(found)
    references = muon([expected[0].weight]), adamw([expected[1].weight])

    take(found, combined(found), seed=0)
    take(expected, *references, seed=0)

    assert_same(found, expected)


# --- filters -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient_layout", LAYOUTS, ids=LAYOUT_NAMES)
@pytest.mark.parametrize("layout", LAYOUTS, ids=LAYOUT_NAMES)
def test_filters_are_matrices_of_one_row_each_in_either_layout(layout, gradient_layout) -> None:
    model = convolutional().to(memory_format=layout)
    filters = [parameter for parameter in model.parameters() if parameter.ndim == 4]
    assert len(filters) == 5
    begun = [each.detach().reshape(len(each), -1).clone() for each in filters]
    rows = [nn.Parameter(each.clone()) for each in begun]
    optimizer, reference = combined(model), muon(rows)

    for seed in range(3):
        drawn = dict(gradients(model, seed))
        for parameter, gradient in drawn.items():
            four = parameter.ndim == 4
            parameter.grad = gradient.contiguous(memory_format=gradient_layout) if four else gradient
        for row, each in zip(rows, filters, strict=True):
            row.grad = drawn[each].reshape(row.shape).clone()
        optimizer.step()
        reference.step()

    for found, expected, start in zip(filters, rows, begun, strict=True):
        # Muon computes in bfloat16, so the order of the columns shows in the last of its few digits.
        moved = (expected - start).norm()
        assert (found.reshape(expected.shape) - expected).norm() < 0.02 * moved
        assert moved > 0


@pytest.mark.parametrize("layout", LAYOUTS, ids=LAYOUT_NAMES)
def test_the_parameters_stay_where_and_how_they_lie(layout) -> None:
    model = convolutional().to(memory_format=layout)
    optimizer = combined(model)
    before = weights(model)
    places = [(parameter.data_ptr(), parameter.stride()) for parameter in model.parameters()]

    take(model, optimizer, seed=0)

    assert [(parameter.data_ptr(), parameter.stride()) for parameter in model.parameters()] == places
    assert not any(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("layout", LAYOUTS, ids=LAYOUT_NAMES)
def test_weights_that_are_loaded_later_are_the_ones_that_learn(layout) -> None:
    model, other = convolutional().to(memory_format=layout), convolutional().to(memory_format=layout)
    for parameter in other.parameters():
        parameter.data.mul_(3)
    optimizer, expected = combined(model), combined(other)

    model.load_state_dict(other.state_dict())
    take(model, optimizer, seed=0)
    take(other, expected, seed=0)

    assert_same(model, other)


@pytest.mark.parametrize("layout", LAYOUTS, ids=LAYOUT_NAMES)
def test_the_gradients_of_a_real_loss_lower_it(layout) -> None:
    model = convolutional().to(memory_format=layout)
    images = torch.randn(24, 1, 6, 8, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    labels = torch.arange(24) % 3
    optimizer, losses = combined(model), []

    for _ in range(30):
        loss = nn.functional.cross_entropy(model(images).view(24, 3), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < 0.5 * losses[0]


# --- gradients that are not there --------------------------------------------------------------------


def test_what_is_frozen_stays_and_learns_when_it_is_thawed() -> None:
    model = dense()
    optimizer = combined(model)
    model[0].requires_grad_(False)
    images, frozen, learning = torch.randn(7, 6), weights(model[0]), weights(model[2])

    def step() -> None:
        optimizer.zero_grad()
        model(images).square().sum().backward()
        optimizer.step()

    step()
    for parameter, before in zip(model[0].parameters(), frozen, strict=True):
        assert torch.equal(parameter, before)
    assert not torch.equal(model[2].weight, learning[0])

    model[0].requires_grad_(True)
    step()
    for parameter, before in zip(model[0].parameters(), frozen, strict=True):
        assert not torch.equal(parameter, before)


@pytest.mark.parametrize("make", [dense, convolutional])
def test_no_gradient_outlives_zero_grad(make) -> None:
    model = make()
    optimizer = combined(model)
    take(model, optimizer, seed=0)
    before = weights(model)

    optimizer.zero_grad()
    optimizer.step()

    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))


# --- schedules and shares of the rate ----------------------------------------------------------------

SCHEDULES: list[dict[str, Any]] = [
    {"schedule": "constant"},
    {"schedule": "cosine"},
    {"schedule": "one-cycle"},
    {"schedule": "constant", "warmup_epochs": 1},
    {"schedule": "cosine", "warmup_epochs": 2},
]


def name_of(changes: dict[str, Any]) -> str:
    return "-".join(map(str, changes.values()))


@pytest.mark.parametrize("changes", SCHEDULES, ids=name_of)
def test_every_step_of_a_schedule_reaches_both(changes: dict[str, Any]) -> None:
    settings = Train(optimizer="muon", epochs=3, lr=LR, momentum=MOMENTUM, weight_decay=DECAY, **changes)
    found, expected = dense(), dense()
    matrices, rest = parted(expected)
    optimizer, references = build_optimizer(found, settings), (muon(matrices), adamw(rest))
    schedules = [Schedule(each, settings, 4) for each in (optimizer, *references)]

    for seed in range(12):
        take(found, optimizer, seed=seed)
        take(expected, *references, seed=seed)
        assert_same(found, expected)
        for schedule in schedules:
            schedule.step()


class Shared(Network):
    """The first two layers learn at a quarter of the rate."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = dense()

    def lr_factors(self) -> dict[nn.Parameter, float]:
        return dict.fromkeys(self.layers[:4].parameters(), 0.25)


def test_shares_of_the_rate_hold_in_both() -> None:
    settings = Train(optimizer="muon", lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    found, expected = Shared(), dense()
    optimizer = build_optimizer(found, settings)
    first, second, last = expected[0], expected[2], expected[4]
    references = (
        muon([first.weight, second.weight], lr=LR / 4),
        adamw([first.bias, second.bias], lr=LR / 4),
        adamw(last.parameters()),
    )

    for seed in range(3):
        take(found, optimizer, seed=seed)
        take(expected, *references, seed=seed)

    assert_same(found.layers, expected)


@pytest.mark.parametrize("changes", SCHEDULES, ids=name_of)
@pytest.mark.parametrize("steps", [1, 5, 11])
def test_a_saved_state_goes_on_with_the_same_bits(changes: dict[str, Any], steps: int) -> None:
    settings = Train(optimizer="muon", epochs=3, lr=LR, momentum=MOMENTUM, weight_decay=DECAY, **changes)

    def begin() -> tuple[nn.Module, optim.Optimizer, Schedule]:
        model = Shared()
        optimizer = build_optimizer(model, settings)
        return model, optimizer, Schedule(optimizer, settings, 4)

    def advance(model: nn.Module, optimizer: optim.Optimizer, schedule: Schedule, seed: int):
        take(model, optimizer, seed=seed)
        schedule.step()

    uninterrupted, first, second = begin(), begin(), begin()
    for seed in range(12):
        advance(*uninterrupted, seed)
    for seed in range(steps):
        advance(*first, seed)
    file = io.BytesIO()
    torch.save([each.state_dict() for each in first[:2]], file)
    file.seek(0)
    for part, state in zip(second, torch.load(file, weights_only=True), strict=False):
        part.load_state_dict(state)
    second[2].move_to(first[2].place)
    for seed in range(steps, 12):
        advance(*second, seed)

    for one, other in zip(second[0].parameters(), uninterrupted[0].parameters(), strict=True):
        assert torch.equal(one, other)


# --- together, as on a GPU ---------------------------------------------------------------------------


def alike(optimizer: Any, decay: float = DECAY) -> tuple[Any, Any]:
    """Matrices of three shapes, wide, tall and square, two of each, and torch's optimizer of copies of them."""
    torch.manual_seed(0)
    matrices = [nn.Parameter(torch.randn(shape)) for shape in [(4, 9), (9, 4), (5, 5)] * 2]
    copies = [nn.Parameter(matrix.detach().clone()) for matrix in matrices]
    given = {"lr": LR, "weight_decay": decay, "momentum": MOMENTUM, "adjust_lr_fn": "match_rms_adamw"}
    return optimizer(matrices, **given), optim.Muon(copies, **given)


def matrices_of(optimizer: optim.Optimizer) -> list[nn.Parameter]:
    return optimizer.param_groups[0]["params"]


@pytest.mark.parametrize("lr", [LR, torch.tensor(LR)], ids=["number", "tensor"])
def test_matrices_taken_together_move_as_torch_moves_them_one_by_one(lr: float | Tensor) -> None:
    together, single = alike(Muon)
    group = together.param_groups[0]
    group["lr"] = lr
    for seed in range(3):
        for one, other in zip(matrices_of(together), matrices_of(single), strict=True):
            one.grad = torch.randn(one.shape, generator=torch.Generator().manual_seed(seed))
            other.grad = one.grad.clone()
        before = [matrix.detach().clone() for matrix in matrices_of(single)]
        with torch.no_grad():
            take_together([together])
        single.step()
        for one, other, old in zip(matrices_of(together), matrices_of(single), before, strict=True):
            # In bfloat16 the order of summation decides the last of eight bits.
            assert (one - other).norm() < 0.01 * (other - old).norm()
            other.data.copy_(one.data)


def test_matrices_of_zeros_stay() -> None:
    found = orthogonalize(torch.zeros(2, 3, 4), ITERATIONS)

    assert torch.equal(found.float(), torch.zeros(2, 3, 4))


@pytest.mark.parametrize("shape", [(2, 6, 20), (3, 20, 6), (1, 8, 8)])
def test_singular_values_come_near_one(shape: tuple[int, int, int]) -> None:
    found = orthogonalize(torch.randn(shape, generator=torch.Generator().manual_seed(0)), ITERATIONS)

    values = torch.linalg.svdvals(found.float())
    assert found.shape == shape
    assert values.min() > 0.3
    assert values.max() < 1.5


def test_the_number_of_iterations_is_the_settings() -> None:
    settings = Train(optimizer="muon", muon_iterations=2)
    optimizer = build_optimizer(dense(), settings)

    assert [group["ns_steps"] for group in optimizer.param_groups if "ns_steps" in group] == [2]
