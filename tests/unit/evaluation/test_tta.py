"""Test-time augmentation: which views a model is asked about, and how its answers are averaged."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.data.draws import noise
from torch import nn

from darkroom.evaluation.tta import average_logits, views

KINDS = ("none", "flip", "flip-translate")
# An image of one pixel has no other to be mirrored at its edge.
SIZES = st.tuples(st.integers(1, 6), st.sampled_from([1, 3]), st.integers(2, 9), st.integers(2, 9))


def by_hand(images, tta):
    """The views as (weight, array), each built from the padded images."""
    alone, mirror = images.numpy(), images.numpy()[..., ::-1]
    if tta == "none":
        return [(1.0, alone)]
    if tta == "flip":
        return [(0.5, alone), (0.5, mirror)]
    height, width = alone.shape[2:]
    padded = np.pad(alone, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    down_right, up_left = padded[:, :, :height, :width], padded[:, :, 2:, 2:]
    shifted = [down_right, down_right[..., ::-1], up_left, up_left[..., ::-1]]
    return [(0.25, alone), (0.25, mirror), *((0.125, view) for view in shifted)]


class Tanh(nn.Module):
    """Not linear, so that averaging images is not averaging logits."""

    def __init__(self, pixels, classes=4):
        super().__init__()
        weights = np.random.default_rng(0).normal(size=(pixels, classes))
        self.weights = torch.from_numpy(weights).float() / pixels**0.5

    def forward(self, images):
        return torch.tanh(images.flatten(1).float() / 128 @ self.weights)


def ordered(shown):
    return sorted((weight, np.asarray(view).tobytes()) for weight, view in shown)


@pytest.mark.parametrize("tta", KINDS)
@settings(max_examples=30, deadline=None)
@given(SIZES, st.integers(0, 1000))
def test_the_views_are_those_made_by_hand_and_their_weights_add_up_to_one(tta, shape, seed):
    images = noise(shape, seed)
    before = images.clone()
    found = views(images, tta)
    assert ordered(found) == ordered(by_hand(images, tta))
    assert sum(weight for weight, _ in found) == 1
    assert all((view.shape, view.dtype) == (images.shape, torch.uint8) for _, view in found)
    assert torch.equal(images, before)


@pytest.mark.parametrize("tta", KINDS)
@pytest.mark.parametrize("shape", [(3, 1, 6, 5), (2, 3, 4, 7)], ids=str)
def test_logits_are_averaged_by_the_weights_of_the_views(tta, shape):
    images, model = noise(shape), Tanh(int(np.prod(shape[1:])))
    shown = by_hand(images, tta)
    expected = sum(weight * model(torch.from_numpy(view.copy())).double() for weight, view in shown)
    assert torch.allclose(average_logits(model, images, tta).double(), expected, atol=1e-6)


def test_one_view_alone_gives_the_models_own_logits():
    images, model = noise((5, 1, 6, 6)), Tanh(36)
    assert torch.equal(average_logits(model, images, "none"), model(images))


def test_with_flips_an_image_and_its_mirror_image_get_the_same_answer():
    images, model = noise((4, 3, 6, 5)), Tanh(90)
    answers = [average_logits(model, shown, "flip") for shown in (images, images.flip(-1))]
    assert not torch.allclose(model(images), model(images.flip(-1)), atol=1e-3)
    assert torch.allclose(*answers, atol=1e-6)
