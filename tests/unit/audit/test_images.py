"""Images in the order of their folds: what a fold is trained on is one piece, and complete."""

from pathlib import Path

import numpy as np
import pytest
import torch

from darkroom.audit.images import blocks_of, fold_images
from darkroom.data.batches import Split


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_fold_is_trained_on_all_images_but_its_own(tmp_path: Path, dtype: torch.dtype) -> None:
    generator = np.random.default_rng(0)
    folds = generator.permutation(np.repeat(np.arange(3), 4))
    images = torch.arange(12 * 4).view(12, 1, 2, 2).to(dtype)
    labels = np.arange(12)
    folded = fold_images(iter(images.split(5)), labels, folds, tmp_path / "images")
    for fold in range(3):
        held_out, train = folded.held_out(fold), folded.train(fold)
        assert sorted(held_out.labels.tolist()) == np.flatnonzero(folds == fold).tolist()
        assert sorted(train.labels.tolist()) == np.flatnonzero(folds != fold).tolist()
        for split in (held_out, train):
            assert torch.equal(split.images, images[split.labels])


def test_all_folds_are_trained_on_as_many_images_though_their_sizes_differ(tmp_path: Path) -> None:
    folds = np.array([0, 0, 0, 1, 1, 2, 2])
    folded = fold_images(iter([torch.zeros(7, 1, 1, 1)]), np.arange(7), folds, tmp_path / "images")
    assert [len(folded.train(fold)) for fold in range(3)] == [4, 4, 4]
    assert [len(folded.held_out(fold)) for fold in range(3)] == [3, 2, 2]
    assert not set(folded.train(1).labels.tolist()) & set(folded.held_out(1).labels.tolist())


def test_of_several_views_the_first_is_taken() -> None:
    split = Split(torch.arange(6.0).view(6, 1, 1, 1), torch.zeros(6, dtype=torch.int64), views=3)
    assert torch.cat(list(blocks_of(split))).flatten().tolist() == [0.0, 3.0]
