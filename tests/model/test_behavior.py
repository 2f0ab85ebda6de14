"""What a model that was trained on real digits may be relied upon to do."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from darkroom.config import parse
from darkroom.data.batches import CPU, Split
from darkroom.data.cache import DatasetCard
from darkroom.models.classifier import Classifier
from darkroom.training.fit import train_classifier

NETWORKS = {"mlp": {"name": "mlp"}, "simple-cnn": {"name": "simple-cnn", "filters": [16, 32], "hidden": 64}}
Trained = Callable[..., Classifier]


@dataclass(frozen=True)
class Digits:
    """Real handwritten digits, 8x8 pixels: the published ones, cut into three."""

    card: DatasetCard
    train: Split
    val: Split
    test: Split


@pytest.fixture(scope="module")
def digits() -> Digits:
    published = load_digits()
    # Published with values of 0 to 16.
    images = torch.from_numpy((published.images * (255 / 16)).round().astype(np.uint8))[:, None]
    labels = torch.from_numpy(published.target.astype(np.int64))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, val, test = (Split(images[rows], labels[rows]) for rows in order.split([1200, 200, 397]))
    pixels = train.images / 255
    names = tuple(map(str, range(10)))
    card = DatasetCard("digits", names, (1, 8, 8), (pixels.mean().item(),), (pixels.std().item(),), {}, {}, "")
    return Digits(card, train, val, test)


@pytest.fixture(scope="module")
def trained(digits: Digits) -> Trained:
    """Train a network, with images shifted by up to ``translate`` pixels; each only once."""

    @cache
    def train(name: str, translate: int = 0) -> Classifier:
        config = parse(
            {
                "model": NETWORKS[name],
                "augment": {"translate": translate},
                "train": {"epochs": 12, "lr": 5e-3, "schedule": "one-cycle", "device": "cpu", "precision": "fp32"},
            },
            where="",
        )
        return train_classifier(config, digits.card, digits.train, digits.val, CPU)[0]

    return train


@pytest.fixture(params=NETWORKS)
def classifier(request: pytest.FixtureRequest, trained: Trained) -> Classifier:
    return trained(request.param)


@torch.no_grad()
def logits_of(classifier: Classifier, images: Tensor) -> Tensor:
    return classifier(images)


def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    return (logits_of(classifier, images).argmax(1) == labels).double().mean().item()


def shifted(images: Tensor) -> Tensor:
    """Every image moved by one pixel down and right; what comes in is black, as the margin of a digit is."""
    moved = torch.zeros_like(images)
    moved[..., 1:, 1:] = images[..., :-1, :-1]
    return moved


def test_digits_that_were_held_out_are_told_apart(classifier: Classifier, digits: Digits) -> None:
    assert accuracy(classifier, digits.test.images, digits.test.labels) > 0.95


def test_no_digit_is_left_behind(classifier: Classifier, digits: Digits) -> None:
    for digit in range(10):
        rows = digits.test.labels == digit
        assert accuracy(classifier, digits.test.images[rows], digits.test.labels[rows]) > 0.8, digit


def test_an_image_has_the_same_logits_alone_and_in_company(classifier: Classifier, digits: Digits) -> None:
    images = digits.test.images[:32]

    together = logits_of(classifier, images)
    alone = torch.cat([logits_of(classifier, image[None]) for image in images])

    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)


def test_an_answer_does_not_depend_on_the_order_of_the_questions(classifier: Classifier, digits: Digits) -> None:
    images = digits.test.images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))

    found = logits_of(classifier, images[order])

    torch.testing.assert_close(found, logits_of(classifier, images)[order], rtol=1e-5, atol=1e-5)


def test_the_same_question_has_the_same_answer(classifier: Classifier, digits: Digits) -> None:
    images = digits.test.images[:32]

    assert torch.equal(logits_of(classifier, images), logits_of(classifier, images))


def test_a_little_noise_changes_few_answers(classifier: Classifier, digits: Digits) -> None:
    images = digits.test.images
    noise = torch.randint(-8, 9, images.shape, generator=torch.Generator().manual_seed(2))
    noisy = (images + noise).clamp(0, 255).to(torch.uint8)

    same = logits_of(classifier, noisy).argmax(1) == logits_of(classifier, images).argmax(1)

    assert same.double().mean() > 0.95


@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_image_without_a_digit_has_finite_probabilities(classifier: Classifier, digits: Digits, value: int) -> None:
    probabilities = logits_of(classifier, torch.full((2, *digits.card.shape), value, dtype=torch.uint8)).softmax(1)

    assert probabilities.isfinite().all()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2))


def test_mistakes_are_less_sure_than_right_answers(classifier: Classifier, digits: Digits) -> None:
    images = shifted(digits.test.images)  # of which enough are wrong for a mean
    confidence, guess = logits_of(classifier, images).softmax(1).max(1)
    right = guess == digits.test.labels

    assert confidence[~right].mean() < confidence[right].mean()


@pytest.mark.parametrize("name", NETWORKS)
def test_training_with_shifts_makes_shifted_digits_cost_less(digits: Digits, trained: Trained, name: str) -> None:
    images, labels = digits.test.images, digits.test.labels

    def cost(classifier: Classifier) -> float:
        return accuracy(classifier, images, labels) - accuracy(classifier, shifted(images), labels)

    assert cost(trained(name, translate=1)) < cost(trained(name))
