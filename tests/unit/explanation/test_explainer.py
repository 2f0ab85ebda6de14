"""The method that explains a model, and the time that it may take. tests/unit/formats has every model and runtime."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from darkroom.config.settings import Model
from darkroom.errors import ModelError
from darkroom.explanation import explainer as module
from darkroom.explanation.explainer import Explainer, time_limit
from darkroom.models.classifier import build_classifier

SHAPE = (1, 28, 26)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), dtype=np.uint8)
LABELS = np.array([0, 2, 1])


@pytest.mark.parametrize(
    ("side", "seconds"), [(8, 0.3), (28, 0.3), (56, 0.6), (224, 2.4), (512, 3.0)], ids=lambda value: str(value)
)
def test_larger_images_may_take_longer_up_to_three_seconds(side: int, seconds: float) -> None:
    assert time_limit((3, side, side // 2)) == pytest.approx(seconds)


def seconds_a_pass(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """As if the model took so long for each image of a batch."""
    monkeypatch.setattr(module, "_seconds", lambda run: (run(), seconds * module.BATCH)[1])


class Counting:
    """A model without layers that counts its passes."""

    def __init__(self) -> None:
        self.passes = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.passes += len(images)
        return images.flatten(1)[:, :3].float()


@pytest.mark.parametrize(("seconds", "cells"), [(1e-6, 24), (0.15 / 100, 9), (0.3 / 9, 2)])
def test_a_slow_model_is_run_so_often_as_there_is_time_for(monkeypatch, seconds: float, cells: int) -> None:
    seconds_a_pass(monkeypatch, seconds * (1 - 1e-9))
    model = Counting()
    explainer = Explainer(model, SHAPE)
    _ = explainer.plan
    before = model.passes

    explainer.explain(IMAGES[:1], LABELS[:1])

    assert model.passes - before == 1 + (cells + 1) ** 2
    assert explainer.plan.seconds == pytest.approx((cells + 1) ** 2 * seconds)


def test_a_model_that_would_take_too_long_is_refused_in_a_line(monkeypatch) -> None:
    seconds_a_pass(monkeypatch, 0.05)

    model = Counting()
    explainer = Explainer(model, SHAPE)
    with pytest.raises(ModelError, match=r"^heat maps: one would take 0\.45 s .*more than the 0\.3 s.*smaller model$"):
        explainer.explain(IMAGES, LABELS)
    passes = model.passes
    with pytest.raises(ModelError, match=r"one would take 0\.45 s"):
        explainer.explain(IMAGES, LABELS)
    assert model.passes == passes  # it is not measured again


def test_a_convolutional_network_that_would_take_too_long_is_refused(monkeypatch, make_card) -> None:
    classifier = build_classifier(Model(name="simple-cnn", filters=(4,), hidden=(4,)), make_card(SHAPE)).eval()
    monkeypatch.setattr(module, "_seconds", lambda run: 0.31)

    with pytest.raises(ModelError, match=r"one would take 0\.31 s"):
        _ = Explainer(classifier, SHAPE).plan


def test_a_network_that_has_no_gradients_is_explained_by_its_logits() -> None:
    layer = torch.nn.Conv2d(1, 3, 3)

    class Rounded(torch.autograd.Function):
        """A step of which only the way forward is known."""

        @staticmethod
        def forward(ctx, values: Tensor) -> Tensor:
            return values.round()

    def model(images: Tensor) -> Tensor:
        return Rounded.apply(layer(images.float())).mean((2, 3))

    explainer = Explainer(model, SHAPE)

    assert explainer.explain(IMAGES, LABELS).shape == (3, *SHAPE[1:])
    assert explainer.plan.method == "occlusion"


def test_many_images_have_the_maps_of_each(make_card) -> None:
    torch.manual_seed(0)
    classifier = build_classifier(Model(name="simple-cnn", filters=(4, 4), hidden=(4,)), make_card(SHAPE)).eval()
    explainer = Explainer(classifier, SHAPE)
    images = np.random.default_rng(1).integers(0, 256, (module.IMAGES + 3, *SHAPE), dtype=np.uint8)
    labels = np.arange(len(images)) % 3

    together = explainer.explain(images, labels)

    assert together.shape == (len(images), *SHAPE[1:])
    for row in (0, module.IMAGES, len(images) - 1):
        np.testing.assert_allclose(together[row], explainer.explain(images[[row]], labels[[row]])[0], atol=1e-4)


class Enlarging:
    """Computes on images of 56 pixels a side, and keeps how many it was given at once."""

    def __init__(self) -> None:
        self.layer = torch.nn.Conv2d(1, 3, 3)
        self.given: list[int] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.given.append(len(images))
        return self.layer(F.interpolate(images.float(), (56, 56))).mean((2, 3))


@pytest.mark.parametrize(("share", "parts"), [(0.4, [2, 2, 1]), (1.5, [1] * 5), (0.01, [5])])
def test_images_of_which_few_fit_into_memory_are_explained_few_at_once(monkeypatch, share, parts) -> None:
    """``share`` of what may be in memory is needed for an image."""
    model = Enlarging()
    values = 20 * 18 + 56 * 56 + 3 * 54 * 54 + 3
    monkeypatch.setattr(module, "VALUES", int(values / share))
    explainer = Explainer(model, SHAPE)
    _ = explainer.plan
    model.given.clear()

    explainer.explain(IMAGES[[0, 1, 2, 0, 1]], LABELS[[0, 1, 2, 0, 1]])

    assert model.given == parts


def test_the_time_limit_is_that_of_the_size_that_the_model_computes_on(monkeypatch) -> None:
    monkeypatch.setattr(module, "_seconds", lambda run: 0.59)
    assert Explainer(Enlarging(), SHAPE).plan.seconds == 0.59
    monkeypatch.setattr(module, "_seconds", lambda run: 0.61)
    with pytest.raises(ModelError, match=r"more than the 0\.6 s"):
        _ = Explainer(Enlarging(), SHAPE).plan


def test_threads_explain_by_layers_one_after_the_other() -> None:
    layer = torch.nn.Conv2d(1, 3, 3)
    another, met, waits = Event(), [], []

    def model(images: Tensor) -> Tensor:
        if waits:
            waits.pop()
            met.append(another.wait(0.2))  # for the other thread, which must not come before this one is done
        else:
            another.set()
        return layer(images.float()).mean((2, 3))

    explainer = Explainer(model, SHAPE)
    _ = explainer.plan
    another.clear()
    waits.append(True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: explainer.explain(IMAGES, LABELS), range(2)))

    assert met == [False]
    assert another.is_set()
