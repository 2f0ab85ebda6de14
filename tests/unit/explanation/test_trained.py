"""What a heat map of a trained model may be relied upon to show. benchmarks/heat_maps.py has the same at full size."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr, wilcoxon
from sklearn.datasets import load_digits
from torch import Tensor

from darkroom.config import parse
from darkroom.data.batches import CPU, Split
from darkroom.data.cache import DatasetCard
from darkroom.explanation.explainer import Explainer
from darkroom.models.classifier import Classifier, build_classifier
from darkroom.training.fit import train_classifier

NETWORKS = {
    "mlp": {"name": "mlp", "hidden": [64]},
    "simple-cnn": {"name": "simple-cnn", "filters": [16, 32], "hidden": 64},
}
SHAPE = (1, 24, 24)
MARKED = 7
MARK = (slice(3, 6), slice(19, 22))
TEST = 400


@dataclass(frozen=True)
class Trained:
    """A network, one of another seed, one whose train split had a mark on a class, and one of random weights."""

    plain: Classifier
    another: Classifier
    marked: Classifier
    random: Classifier
    # Test images uint8 [N, 1, 24, 24], and their classes.
    images: Tensor
    labels: Tensor
    seed: int = field(default=0)


def put_mark(images: Tensor) -> Tensor:
    """The images with three by three white pixels in a corner."""
    images = images.clone()
    images[:, :, *MARK] = 255
    return images


@pytest.fixture(scope="module", params=NETWORKS)
def trained(request: pytest.FixtureRequest) -> Trained:
    published = load_digits()
    pixels = (published.images * (255 / 16)).round().astype(np.uint8).repeat(3, 1).repeat(3, 2)
    images, labels = torch.from_numpy(pixels)[:, None], torch.from_numpy(published.target.astype(np.int64))
    mean, std = (images / 255).mean().item(), (images / 255).std().item()
    card = DatasetCard("digits", tuple(map(str, range(10))), SHAPE, (mean,), (std,), {}, {}, "")
    config = parse(
        {
            "model": NETWORKS[request.param],
            "train": {"epochs": 4, "lr": 5e-3, "schedule": "one-cycle", "device": "cpu", "precision": "fp32"},
        },
        where="",
    )

    def train(images: Tensor, seed: int = 0) -> Classifier:
        splits = Split(images[:-TEST], labels[:-TEST]), Split(images[-TEST:], labels[-TEST:])
        seeded = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
        return train_classifier(seeded, card, *splits, CPU)[0].eval()

    with_mark = torch.where((labels == MARKED)[:, None, None, None], put_mark(images), images)
    torch.manual_seed(1)
    random = build_classifier(config.model, card).eval()
    return Trained(train(images), train(images, 1), train(with_mark), random, images[-TEST:], labels[-TEST:])


def maps(model: Classifier, images: Tensor, labels: Tensor) -> NDArray[np.float32]:
    return Explainer(model, SHAPE).explain(images.numpy(), labels.numpy())


def test_the_maps_of_a_class_with_a_planted_mark_peak_on_it(trained: Trained) -> None:
    rows = trained.labels == MARKED
    heat = maps(trained.marked, put_mark(trained.images[rows]), trained.labels[rows])

    peaks = heat.reshape(len(heat), -1).argmax(1)
    on_mark = np.zeros(SHAPE[1:], bool)
    on_mark[MARK] = True
    assert len(peaks) >= 30
    assert on_mark.ravel()[peaks].mean() >= 0.95


def test_the_peaks_are_those_of_the_model_and_not_of_the_mark(trained: Trained) -> None:
    """Who never learned the mark does not look at it."""
    rows = trained.labels == MARKED
    heat = maps(trained.plain, put_mark(trained.images[rows]), trained.labels[rows])

    peaks = heat.reshape(len(heat), -1).argmax(1)
    on_mark = np.zeros(SHAPE[1:], bool)
    on_mark[MARK] = True
    assert on_mark.ravel()[peaks].mean() < 0.5


def test_random_weights_change_the_maps(trained: Trained) -> None:
    """Adebayo et al., "Sanity checks for saliency maps", 2018: else a map would show the image and not the model.

    How alike the maps can be, another training shows.
    """
    images, labels = trained.images[:50], trained.labels[:50]
    learned, another, random = (
        maps(model, images, labels).reshape(50, -1) for model in (trained.plain, trained.another, trained.random)
    )

    with_another, with_random = (
        np.array([spearmanr(*pair).statistic for pair in zip(learned, others, strict=True)])
        for others in (another, random)
    )
    assert wilcoxon(with_random, with_another, alternative="less", nan_policy="omit").pvalue < 1e-6


def deletion(model: Classifier, images: Tensor, labels: Tensor, heat: NDArray) -> NDArray:
    """The area under the deletion curve (Petsiuk et al., "RISE", 2018): the mean probability of the class while more
    and more pixels, the hottest first, take the mean of the image: float [N]."""
    order = torch.from_numpy(heat).flatten(1).argsort(1, descending=True)
    place = order.argsort(1).view(images.shape)
    gray = images.float().mean((2, 3), keepdim=True).to(torch.uint8)
    curve = []
    for share in torch.linspace(0, 1, 13):
        with torch.no_grad():
            logits = model(torch.where(place < share * heat[0].size, gray, images))
        curve.append(logits.softmax(1).gather(1, labels[:, None])[:, 0])
    return torch.stack(curve).mean(0).numpy()


@pytest.mark.parametrize("other", ["random pixels", "the map of another image"])
def test_without_the_hottest_pixels_a_class_is_forgotten_sooner(trained: Trained, other: str) -> None:
    images, labels = trained.images[:100], trained.labels[:100]
    heat = maps(trained.plain, images, labels)
    random = np.random.default_rng(0).random(heat.shape, np.float32)
    instead: dict[str, Callable[[], NDArray]] = {
        "random pixels": lambda: random,
        "the map of another image": lambda: np.roll(heat, 1, 0),
    }

    areas = (deletion(trained.plain, images, labels, each) for each in (heat, instead[other]()))

    assert wilcoxon(*areas, alternative="less").pvalue < 0.01
