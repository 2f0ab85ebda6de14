"""A training begins with a model that fits the images, and whose start the seed decides."""

from typing import Any

import pytest
import torch
from torch import Tensor

from darkroom.config import Config, parse
from darkroom.data.batches import CPU, Split
from darkroom.errors import ConfigError, ModelError
from darkroom.models.classifier import Classifier
from darkroom.training import fit
from darkroom.training.fit import start_classifier, train_classifier

FAST_CNN = {"name": "fast-cnn", "filters": [4, 4, 4]}


def config(model: dict[str, Any] | None = None, augment: dict[str, Any] | None = None, **train: Any) -> Config:
    return parse(
        {
            "model": model or {"name": "mlp", "hidden": 4},
            "augment": augment or {},
            "train": {"device": "cpu", "precision": "fp32", "epochs": 1, **train},
        },
        where="",
    )


def numbered(count: int) -> Split:
    """Images whose first two pixels are the number of their row."""
    images = torch.zeros(count, 1, 8, 8, dtype=torch.uint8)
    rows = torch.arange(count)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = rows // 256, rows % 256
    return Split(images, rows % 3)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The initial images of every classifier that is started."""
    found: list[Tensor] = []
    monkeypatch.setattr(Classifier, "initialize", lambda _, images: found.append(images))
    return found


def rows(images: Tensor) -> list[int]:
    return (images[:, 0, 0, 0].int() * 256 + images[:, 0, 0, 1]).tolist()


# --- what does not fit -------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [start_classifier, lambda *given: train_classifier(*given, given[-1], CPU)])
@pytest.mark.parametrize("key", ["translate", "cutout"])
def test_an_augmentation_that_leaves_nothing_of_the_images_is_refused(make_card, shown, begin, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^augment\.{key}: 8 pixels leave nothing of images of 8x8; set it below 8"):
        begin(config(augment={key: 8}), make_card(), numbered(30))

    assert not shown


def test_an_augmentation_that_just_fits_is_taken(make_card, shown) -> None:
    start_classifier(config(augment={"translate": 7}), make_card(), numbered(30))

    assert len(shown) == 1


def test_images_too_small_for_the_architecture_are_refused(make_card) -> None:
    with pytest.raises(ModelError, match=r"^model\.name: fast-cnn takes images of 17x17 pixels or more"):
        start_classifier(config(FAST_CNN), make_card(), numbered(30))


# --- the initial images ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 9, 10, 11, 15, 19, 20, 21, 99, 1000])
def test_the_initial_images_come_evenly_from_all_over_the_split(monkeypatch, make_card, shown, count: int) -> None:
    monkeypatch.setattr(fit, "INITIAL_IMAGES", 10)

    start_classifier(config(), make_card(), numbered(count))

    found = rows(shown[0])
    gaps = [after - before for before, after in zip([*found], [*found[1:], count], strict=True)]
    assert len(found) == min(count, 10)
    assert found[0] == 0
    assert {*gaps} <= {count // len(found), -(-count // len(found))}


def test_of_a_split_that_lies_class_by_class_every_class_is_seen(make_card, shown) -> None:
    # Twice as many as are looked at, but for one.
    count = 2 * fit.INITIAL_IMAGES - 1

    start_classifier(config(), make_card(), numbered(count))

    tenths = torch.tensor(rows(shown[0])) * 10 // count
    assert len(shown[0]) == fit.INITIAL_IMAGES
    assert tenths.bincount(minlength=10).min() >= 0.09 * fit.INITIAL_IMAGES


def test_of_large_images_fewer_are_looked_at(monkeypatch, make_card, shown) -> None:
    monkeypatch.setattr(fit, "INITIAL_PIXELS", 7 * 16 * 16 + 1)
    images = torch.zeros((60, 1, 16, 16), dtype=torch.uint8)

    start_classifier(config(), make_card((1, 16, 16)), Split(images, torch.zeros(60, dtype=torch.int64)))

    assert shown[0].shape == (7, 1, 16, 16)


def test_the_initial_images_are_the_same_every_time(make_card, shown) -> None:
    for seed in (1, 1, 2):
        start_classifier(config(seed=seed), make_card(), numbered(7000))

    assert torch.equal(shown[0], shown[1])
    assert torch.equal(shown[0], shown[2])


# --- the seed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [{"name": "mlp", "hidden": 4}, FAST_CNN], ids=["mlp", "fast-cnn"])
def test_the_seed_decides_what_a_training_begins_with(make_card, make_split, model: dict[str, Any]) -> None:
    card, train = make_card((1, 18, 18)), make_split(40, (1, 18, 18))

    def start(seed: int) -> dict[str, Tensor]:
        return start_classifier(config(model, seed=seed), card, train).state_dict()

    first = start(3)
    torch.rand(5)  # whatever else has been drawn before
    again, other = start(3), start(4)

    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


def test_what_dropout_draws_is_seeded_too(make_card, make_split) -> None:
    drawn = []
    for seed in (3, 3, 4):
        start_classifier(config(seed=seed), make_card(), make_split())
        drawn.append(torch.rand(5))

    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_network_is_shown_the_images(make_card, make_split) -> None:
    card = make_card((1, 18, 18))

    first, other = (
        start_classifier(config(FAST_CNN), card, make_split(40, (1, 18, 18), seed=seed)).state_dict() for seed in (0, 1)
    )

    changed = {key for key, value in first.items() if not torch.equal(value, other[key])}
    assert changed == {"network.whitening.filters"}
