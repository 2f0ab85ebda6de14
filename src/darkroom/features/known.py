"""Features that a training has left, for an evaluation of its model: the images need not go through the body again."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from darkroom.data.batches import Split
from darkroom.errors import CacheError
from darkroom.features.files import is_intact, read_features
from darkroom.features.key import features_directory, features_key
from darkroom.models.card import ModelCard
from darkroom.models.classifier import Classifier
from darkroom.models.files import settings_of
from darkroom.models.pretrained import Pretrained
from darkroom.workspace import Workspace


class HeadAlone(nn.Module):
    """The head of a trained ``classifier``: maps features [N, features, 1, 1] to its logits [N, classes]."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.head = cast(Pretrained, classifier.network).head

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features.flatten(1))
        return logits


@dataclass(frozen=True)
class Known:
    """The features of the images of ``train`` and ``val``, in their order, and the ``head`` that takes them."""

    head: HeadAlone
    train: Split
    val: Split


def find_known(workspace: Workspace, card: ModelCard, classifier: Classifier) -> Known | None:
    """The features that the body of the ``classifier`` of ``card`` gives; None if they are not here, or it was trained.

    Its logits by them are those of the images to about 1e-5.
    """
    config = settings_of(card)
    if not config.model.trains_head:
        return None
    key = features_key(config, card.dataset_card, classifier)
    directory = features_directory(workspace.features, key)
    try:
        if not directory.is_dir() or not is_intact(directory, key):
            return None
        found = read_features(directory)
    except CacheError:
        return None
    return Known(HeadAlone(classifier), _of_images(found.train), found.val)


def _of_images(features: Split) -> Split:
    """The first view of each image: the image itself."""
    assert isinstance(features.images, torch.Tensor)
    views = slice(None, None, features.views)
    return Split(features.images[views], features.labels[views], features.mapping)
