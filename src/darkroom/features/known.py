"""Features that a training has left, for an evaluation of its model: the images need not go through the body again."""

from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from torch import nn

from darkroom.data.batches import Split
from darkroom.errors import CacheError
from darkroom.features.files import is_intact, read_features
from darkroom.features.key import features_directories
from darkroom.models.card import ModelCard
from darkroom.models.classifier import Classifier
from darkroom.models.files import settings_of
from darkroom.models.pretrained import Pretrained
from darkroom.workspace import Workspace


@dataclass(frozen=True)
class Known:
    """The features of the images of ``train`` and ``val``, in their order, and the ``head`` that takes them.

    It maps features [N, features, 1, 1] to logits [N, classes].
    """

    head: nn.Module
    train: Split
    val: Split


def find_known(workspace: Workspace, card: ModelCard, classifier: Classifier) -> Known | None:
    """The features that the body of the ``classifier`` of ``card`` gives; None if they are not here, or it was trained.

    Its logits by them are those of the images to about 1e-5.
    """
    config = settings_of(card)
    if not config.model.trains_head:
        return None
    for directory, key in features_directories(workspace.features, config, card.dataset_card, classifier).items():
        with suppress(CacheError):
            if directory.is_dir() and is_intact(directory, key):
                found = read_features(directory)
                head = nn.Sequential(nn.Flatten(), cast(Pretrained, classifier.network).head)
                return Known(head, found.train.originals, found.val)
    return None
