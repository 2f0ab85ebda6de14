"""Cross-validating a head: on the features of the images themselves, of all splits, in their order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from darkroom.audit import cross_validation
from darkroom.audit.cross_validation import cross_validate
from darkroom.audit.images import FoldedImages, fold_images
from darkroom.config import Config
from darkroom.data.batches import read_split
from darkroom.data.cache import SPLITS, DatasetCard
from darkroom.features.body import Body, feature_function
from darkroom.features.head import open_head
from darkroom.workspace import Workspace

CPU = torch.device("cpu")


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[FoldedImages, np.ndarray]]:
    """What was folded, in the order of the images."""
    seen: list[tuple[FoldedImages, np.ndarray]] = []

    def fold(*given: object) -> FoldedImages:
        found = fold_images(*given)
        ordered = np.empty((len(found.rows), *found.images.images.shape[1:]), np.float32)
        ordered[found.rows] = found.images.images[: len(found.rows)].numpy()
        seen.append((found, ordered))
        return found

    monkeypatch.setattr(cross_validation, "fold_images", fold)
    return seen


@pytest.mark.parametrize("changes", [{}, {"augment__views": 3, "augment__flip": "random"}], ids=["one view", "three"])
def test_features_of_all_splits_are_folded(
    root: Path, configured: Callable[..., Config], folded: list, changes: dict[str, object]
) -> None:
    config, workspace = configured(audit__folds=3, **changes), Workspace()
    directory = workspace.processed("folder")
    card = DatasetCard.read(directory)
    found = cross_validate(config, workspace, card)
    assert found.logits.shape == (sum(card.sizes.values()), 3)
    head = open_head(config, workspace, card, CPU)
    assert head
    function = feature_function(Body(head.whole), CPU)
    images = torch.cat([read_split(directory, card, name).images for name in SPLITS])
    np.testing.assert_allclose(folded[0][1][:, :, 0, 0], function(images).numpy(), rtol=1e-4, atol=1e-4)


def test_the_head_of_a_fold_begins_as_that_of_a_training(root: Path, configured: Callable[..., Config]) -> None:
    workspace = Workspace()
    card = DatasetCard.read(workspace.processed("folder"))

    found = cross_validate(configured(audit__folds=2, train__lr=1e-12), workspace, card)

    np.testing.assert_allclose(found.logits, 0, atol=1e-6)


def test_other_settings_of_the_head_train_again_and_the_same_do_not(
    root: Path, configured: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace()
    card = DatasetCard.read(workspace.processed("folder"))
    first = cross_validate(configured(audit__folds=2), workspace, card)
    monkeypatch.setattr("darkroom.audit.cross_validation.new_head", None)
    again = cross_validate(configured(audit__folds=2), workspace, card)
    assert np.array_equal(first.logits, again.logits)
    with pytest.raises(TypeError):  # it trains
        cross_validate(configured(audit__folds=2, train__lr=0.02), workspace, card)
    assert len(list((root / "models" / "checkpoints" / "audit").glob("[0-9a-f]*"))) == 1
