"""A classifier's weights alone, under the names of its modules, for users who rebuild the module."""

from pathlib import Path

import torch

from darkroom.config import parse
from darkroom.evaluation.logits import LogitsFunction
from darkroom.models.card import ModelCard
from darkroom.models.classifier import Classifier
from darkroom.models.files import load_weights, save_weights


def write_pth(classifier: Classifier, path: Path) -> None:
    """Write a state_dict that ``torch.load(path, weights_only=True)`` reads."""
    torch.save({name: value.contiguous() for name, value in classifier.state_dict().items()}, path)


def write_safetensors(classifier: Classifier, path: Path) -> None:
    """Write a state_dict as safetensors, the same bytes as models/model.safetensors."""
    save_weights(classifier, path)


def read_state_dict(path: Path, card: ModelCard) -> LogitsFunction:
    """The classifier that ``card`` describes, with the weights in ``path``. Raises ModelError."""
    return load_weights(path, parse(card.settings, where="").model, card.dataset_card)
