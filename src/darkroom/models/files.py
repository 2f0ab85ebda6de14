"""A trained model on disk: weights in safetensors, which its card describes."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from darkroom.config import Config, parse
from darkroom.config.settings import Model
from darkroom.data.cache import DatasetCard
from darkroom.errors import ConfigError, ModelError
from darkroom.models.card import MADE_BY, ModelCard, card_of
from darkroom.models.classifier import Classifier, build_classifier
from darkroom.models.weights import check_fit, named_like, read_weights
from darkroom.utils.files import atomic_file, sha256


def save_weights(classifier: Classifier, path: Path) -> str:
    """Write the classifier's weights, normalization included. Returns the file's SHA-256."""
    return write_weights(classifier.state_dict(), path)


def write_weights(weights: Mapping[str, Tensor], path: Path) -> str:
    """Write weights as safetensors. Returns the file's SHA-256."""
    with atomic_file(path) as partial:
        save_file(_row_major(weights), partial)
    return sha256(path)


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """The SHA-256 of the file that ``write_weights`` makes of them."""
    return hashlib.sha256(save(_row_major(weights))).hexdigest()


def _row_major(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in the form of safetensors: row-major, also those in channels_last, and none that share memory."""
    return {name: value.clone(memory_format=torch.contiguous_format) for name, value in weights.items()}


def load_classifier(weights: Path, card_path: Path) -> tuple[Classifier, ModelCard]:
    """The classifier, in evaluation mode on the CPU, and its card.

    Raises ModelError if a file is missing, damaged, or the two do not belong together.
    """
    card = card_of(weights, card_path)
    try:
        found = load_file(weights)
    except SafetensorError as problem:
        raise ModelError(f"{weights}: cannot be loaded ({problem}); run `{MADE_BY}` again") from None
    return rebuild(card, found, weights), card


def settings_of(card: ModelCard) -> Config:
    """The settings that a model was trained with. Raises ConfigError if they are none."""
    return parse(card.settings, where="settings.")


def rebuild(card: ModelCard, weights: Mapping[str, Tensor], where: Path | str) -> Classifier:
    """The classifier that ``card`` describes, in evaluation mode, with ``weights`` read from ``where``.

    Raises ModelError if they do not fit.
    """
    try:
        classifier = build_classifier(settings_of(card).model, card.dataset_card)
        classifier.load_state_dict(weights)
    except (ConfigError, RuntimeError, TypeError, ValueError, ArithmeticError, MemoryError) as problem:
        raise ModelError(f"{where}: cannot be loaded ({problem}); run `{MADE_BY}` again") from None
    return classifier.eval()


def load_weights(path: Path, settings: Model, dataset: DatasetCard) -> Classifier:
    """The classifier that ``settings`` describe, in evaluation mode, with the weights of the state_dict in ``path``.

    Raises ModelError if the file cannot be read or its weights are not those of such a classifier.
    """
    classifier = build_classifier(settings, dataset)
    wanted = classifier.state_dict()
    found = named_like(read_weights(path), wanted)
    check_fit(found, wanted, path, settings.name)
    if extra := sorted(found.keys() - wanted.keys()):
        raise ModelError(f"{path}: has weights for {extra[0]}, which {settings.name} lacks; choose the right model")
    classifier.load_state_dict(found)
    return classifier.eval()
