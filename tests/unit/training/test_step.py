"""One step learns from a batch what a plain loop over its images does, whole or in parts."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from tests.unit.training.tiny import Scaled
from torch import Tensor, nn, optim
from torch.nn import functional as F

from darkroom.config.settings import Augment, Train
from darkroom.data.augmentation.mixing import Target, mix
from darkroom.data.batches import Split
from darkroom.training.optimizers import build_optimizer
from darkroom.training.step import TrainStep

CPU = torch.device("cpu")
LR = 0.5
# Ten images of three classes, in a split where the classes are of very different sizes.
LABELS = torch.tensor([0, 2, 1, 0, 0, 2, 1, 0, 2, 1])
TRAIN_LABELS = torch.tensor([0] * 20 + [1] * 7 + [2] * 3)
MIXING = [Augment(mixup=0.8), Augment(cutmix=1.0), Augment(mixup=1.0, cutmix=1.0)]


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Scaled(), nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 3))


def pictures(seed: int = 0, count: int = len(LABELS)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 6, 6), generator=generator).to(torch.uint8)


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_step(
    model: nn.Module, augment: Augment | None = None, train_labels: Tensor = TRAIN_LABELS, **settings: Any
) -> TrainStep:
    optimizer = optim.SGD(model.parameters(), LR)
    train = Split(pictures(count=len(train_labels)), train_labels)
    return TrainStep(model, optimizer, train, Train(**settings), augment or Augment(), CPU, "fp32")


def descend(model: nn.Module, loss: Tensor) -> None:
    """A step of gradient descent by hand."""
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter -= LR * gradient


def assert_same_weights(found: nn.Module, expected: nn.Module) -> None:
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def balanced(labels: Tensor) -> dict[int, float]:
    """scikit-learn's weight of each class that occurs."""
    classes = np.unique(labels.numpy())
    found = compute_class_weight("balanced", classes=classes, y=labels.numpy())
    return dict(zip(classes.tolist(), found.tolist(), strict=True))


def image_by_image(logits: Tensor, target: Target, weights: dict[int, float], smoothing: float) -> Tensor:
    """The loss of a mixed batch, one image after the other."""
    assert target.partners is not None
    assert target.share is not None
    losses, total = torch.zeros(()), 0.0
    for row, label, partner, share in zip(logits, target.labels, target.partners, target.share, strict=True):
        logs = row - row.exp().sum().log()
        for shown, part in ((label.item(), share.item()), (partner.item(), 1 - share.item())):
            loss = -(1 - smoothing) * logs[shown] - smoothing * logs.mean()
            losses = losses + part * weights[shown] * loss
            total += part * weights[shown]
    return losses / total


# --- the loss ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_without_mixing_it_is_gradient_descent_on_the_cross_entropy(smoothing: float) -> None:
    model, images = make_model(), pictures()
    by_hand = copy.deepcopy(model)
    logits = by_hand(images)
    expected = F.cross_entropy(logits, LABELS, label_smoothing=smoothing)

    loss, correct = make_step(model, label_smoothing=smoothing)(images, LABELS, seeded())

    descend(by_hand, expected)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert correct.item() == (logits.argmax(1) == LABELS).sum().item()
    assert_same_weights(model, by_hand)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_step_owes_nothing_to_the_one_before(parts: int) -> None:
    model = make_model()
    by_hand = copy.deepcopy(model)
    step = make_step(model, accumulate=parts)

    for seed in range(3):
        descend(by_hand, F.cross_entropy(by_hand(pictures(seed)), LABELS))
        step(pictures(seed), LABELS, seeded())

    assert_same_weights(model, by_hand)


def test_without_mixing_nothing_is_drawn() -> None:
    generator = seeded()

    make_step(make_model())(pictures(), LABELS, generator)

    assert torch.equal(generator.get_state(), seeded().get_state())


@pytest.mark.parametrize(
    "train_labels",
    [TRAIN_LABELS, torch.tensor([2] * 9 + [0, 1]), LABELS],
    ids=["falling", "mostly the last", "the batch's own"],
)
def test_balanced_weights_are_scikit_learns_of_the_whole_split(train_labels: Tensor) -> None:
    model, images = make_model(), pictures()
    by_hand = copy.deepcopy(model)
    weights = torch.tensor([balanced(train_labels)[label] for label in range(3)])
    expected = F.cross_entropy(by_hand(images), LABELS, weight=weights)

    loss, _ = make_step(model, train_labels=train_labels, class_weights="balanced")(images, LABELS, seeded())

    descend(by_hand, expected)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert_same_weights(model, by_hand)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_class_that_does_not_occur_does_no_harm(missing: int) -> None:
    model, images = make_model(), pictures()
    by_hand = copy.deepcopy(model)
    train_labels = TRAIN_LABELS[missing != TRAIN_LABELS]
    shown = missing != LABELS
    weights = balanced(train_labels)
    expected = F.cross_entropy(
        by_hand(images[shown]),
        LABELS[shown],
        weight=torch.tensor([weights.get(label, math.nan) for label in range(3)]),
    )

    loss, _ = make_step(model, train_labels=train_labels, class_weights="balanced")(
        images[shown], LABELS[shown], seeded()
    )

    descend(by_hand, expected)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert_same_weights(model, by_hand)


# --- mixed images ------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", MIXING, ids=["mixup", "cutmix", "both"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_a_mixed_image_counts_for_both_of_its_classes(augment: Augment, smoothing: float, class_weights: str) -> None:
    model = make_model()
    by_hand = copy.deepcopy(model)
    images, target = mix(pictures(), LABELS, augment, seeded())
    weights = balanced(TRAIN_LABELS) if class_weights == "balanced" else dict.fromkeys(range(3), 1.0)
    expected = image_by_image(by_hand(images), target, weights, smoothing)

    step = make_step(model, augment, class_weights=class_weights, label_smoothing=smoothing)
    loss, _ = step(pictures(), LABELS, seeded())

    descend(by_hand, expected)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert_same_weights(model, by_hand)


@pytest.mark.parametrize("augment", MIXING, ids=["mixup", "cutmix", "both"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_mixed_images_is_torchs_of_soft_labels(augment: Augment, smoothing: float) -> None:
    model = make_model()
    images, target = mix(pictures(), LABELS, augment, seeded())
    assert target.partners is not None
    assert target.share is not None
    share = target.share[:, None]
    soft = share * F.one_hot(target.labels, 3) + (1 - share) * F.one_hot(target.partners, 3)
    expected = F.cross_entropy(model(images), soft, label_smoothing=smoothing).item()

    loss, _ = make_step(model, augment, label_smoothing=smoothing)(pictures(), LABELS, seeded())

    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_who_sees_what_a_mixed_image_shows_most_of_is_always_right() -> None:
    # Each class has a channel of its own, so the brightest channel is the class with the larger share.
    labels = torch.arange(60) % 3
    images = 255 * F.one_hot(labels, 3)[:, :, None, None].to(torch.uint8)
    model = nn.Sequential(Scaled(), nn.Flatten(), nn.Linear(3, 3, bias=False))
    nn.init.eye_(model[2].weight)
    augment = Augment(mixup=1.0)
    share = mix(images, labels, augment, seeded())[1].share
    assert share is not None
    assert 10 < (share < 0.5).sum() < 50

    _, correct = make_step(model, augment)(images, labels, seeded())

    assert correct.item() == 60


def test_the_mixture_goes_on_from_batch_to_batch() -> None:
    generator, expected = seeded(), seeded()
    step = make_step(make_model(), Augment(mixup=1.0))

    for _ in range(2):
        step(pictures(), LABELS, generator)
        mix(pictures(), LABELS, Augment(mixup=1.0), expected)

    assert torch.equal(generator.get_state(), expected.get_state())
    assert not torch.equal(generator.get_state(), seeded().get_state())


# --- a batch in parts --------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 3, 4, 5, 7, 10, 64])
@pytest.mark.parametrize(
    ("augment", "settings"),
    [
        (Augment(), {}),
        (Augment(), {"class_weights": "balanced"}),
        (Augment(), {"label_smoothing": 0.2, "clip_norm": 0.05}),
        (Augment(mixup=1.0), {}),
        (Augment(mixup=1.0, cutmix=1.0), {"class_weights": "balanced"}),
    ],
    ids=["plain", "class weights", "clipped", "mixup", "all"],
)
def test_a_batch_in_parts_teaches_what_the_whole_does(augment: Augment, settings: dict[str, Any], parts: int) -> None:
    whole, divided = make_model(), make_model()
    at_once, in_parts = make_step(whole, augment, **settings), make_step(divided, augment, accumulate=parts, **settings)
    one, other = seeded(), seeded()

    for batch in range(3):
        expected = at_once(pictures(batch), LABELS, one)
        found = in_parts(pictures(batch), LABELS, other)
        assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-5)
        assert found[1].item() == expected[1].item()

    assert_same_weights(divided, whole)


@pytest.mark.parametrize(("parts", "largest"), [(1, 10), (2, 5), (3, 4), (4, 3), (9, 2), (10, 1), (64, 1)])
def test_no_part_is_larger_than_it_must_be_and_none_is_left_out(parts: int, largest: int) -> None:
    model, seen = make_model(), []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))

    make_step(model, accumulate=parts)(pictures(), LABELS, seeded())

    assert max(map(len, seen)) == largest
    assert torch.equal(torch.cat(seen), pictures())


# --- fp16 --------------------------------------------------------------------------------------------


def in_fp16(settings: Train, *, images: Tensor | None = None) -> tuple[nn.Module, nn.Module, TrainStep]:
    """The model before and after a step in fp16, and the step."""
    model = make_model()
    before = copy.deepcopy(model)
    train = Split(pictures(count=len(TRAIN_LABELS)), TRAIN_LABELS)
    step = TrainStep(model, build_optimizer(model, settings), train, settings, Augment(), CPU, "fp16")
    step.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)  # where it comes to after some steps
    step(pictures() if images is None else images, LABELS, seeded())
    return before, model, step


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("changes", [{}, {"clip_norm": 0.05}, {"accumulate": 2}], ids=["plain", "clipped", "parts"])
def test_a_step_in_fp16_is_that_of_fp32_up_to_its_digits(optimizer: str, changes: dict[str, Any]) -> None:
    settings = Train(optimizer=optimizer, lr=0.01, batch_size=len(LABELS), **changes)
    before, found, _ = in_fp16(settings)
    expected = copy.deepcopy(before)
    train = Split(pictures(count=len(TRAIN_LABELS)), TRAIN_LABELS)
    TrainStep(expected, build_optimizer(expected, settings), train, settings, Augment(), CPU, "fp32")(
        pictures(), LABELS, seeded()
    )

    moved = [one - other for one, other in zip(expected.parameters(), before.parameters(), strict=True)]
    difference = [one - other for one, other in zip(found.parameters(), expected.parameters(), strict=True)]
    # Muon takes small directions to be as large as others.
    assert 0 < norm(difference) < (0.1 if optimizer == "muon" else 0.02) * norm(moved)


def norm(tensors: list[Tensor]) -> float:
    return float(torch.cat([tensor.detach().flatten() for tensor in tensors]).norm())


def test_gradients_beyond_fp16_change_nothing_and_the_scale_is_halved() -> None:
    class Huge(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.half() * 60_000.0

    settings = Train(optimizer="sgd", lr=0.01)
    model = nn.Sequential(Huge(), nn.Flatten(), nn.Linear(36, 3))
    before = copy.deepcopy(model)
    step = TrainStep(
        model, build_optimizer(model, settings), Split(pictures(), LABELS), settings, Augment(), CPU, "fp16"
    )
    assert step.scaler is not None
    scale = step.scaler.get_scale()
    step(pictures(), LABELS, seeded())

    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before.parameters(), strict=True))
    assert step.scaler.get_scale() == scale / 2
