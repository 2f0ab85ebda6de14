"""Dropout: the distribution of torch's own, reproducible, and in every layout."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from darkroom.models.dropout import Dropout


def dropped(p: float, *shape: int, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return Dropout(p)(torch.ones(*shape))


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_as_many_are_dropped_as_the_probability_says(p):
    count = 400_000
    share = (dropped(p, count) == 0).float().mean().item()

    # Five standard deviations of a binomial share.
    assert abs(share - p) < 5 * (p * (1 - p) / count) ** 0.5


@pytest.mark.parametrize("p", [0.1, 0.25, 0.3, 0.9])
def test_what_is_kept_is_scaled_so_that_the_mean_stays(p):
    kept = dropped(p, 10_000).unique()[1:]

    torch.testing.assert_close(kept, torch.tensor([1 / (1 - p)]), rtol=1e-4, atol=0)


@given(st.floats(0, 1), st.integers(1, 40))
def test_every_probability_and_size_gives_zeros_and_one_other_value(p, count):
    activations = dropped(p, count)

    assert activations.shape == (count,)
    assert activations.isfinite().all()
    assert len(activations[activations != 0].unique()) <= 1


def test_neighbors_are_dropped_independently():
    """Four draws are cut from one random number."""
    columns = (dropped(0.5, 100_000, 4) == 0).double()

    correlations = torch.corrcoef(columns.T) - torch.eye(4)
    assert correlations.abs().max() < 0.02


def test_the_same_seed_drops_the_same():
    assert torch.equal(dropped(0.3, 999, seed=1), dropped(0.3, 999, seed=1))
    assert not torch.equal(dropped(0.3, 999, seed=1), dropped(0.3, 999, seed=2))


def test_the_gradient_passes_where_the_activation_did():
    activations = torch.randn(64, 33, requires_grad=True)
    shown = Dropout(0.4)(activations)
    shown.sum().backward()

    torch.testing.assert_close(activations.grad * activations, shown)


def test_evaluation_changes_nothing():
    activations = torch.randn(8, 8)

    assert Dropout(0.5).eval()(activations) is activations


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_none_and_all_are_exact(p):
    torch.testing.assert_close(dropped(p, 100), torch.full((100,), 1 - p))


def test_the_layout_stays():
    activations = torch.ones(4, 8, 6, 6).to(memory_format=torch.channels_last)
    shown = Dropout(0.5)(activations)

    assert shown.is_contiguous(memory_format=torch.channels_last)
    assert 0.3 < (shown == 0).float().mean() < 0.7


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_stays(dtype):
    assert Dropout(0.5)(torch.ones(10, dtype=dtype)).dtype is dtype


def test_it_counts_as_torchs_dropout():
    """Exporters and tools look for that class."""
    assert isinstance(Dropout(0.2), nn.Dropout)
    assert "p=0.2" in repr(Dropout(0.2))
