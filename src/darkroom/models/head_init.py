"""The initial weights of a new head: zeros, or what the weights of the body know of other classes."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from darkroom.config import Config
from darkroom.data.batches import Split
from darkroom.errors import ModelError
from darkroom.models.class_layer import ClassLayer, combine
from darkroom.models.classifier import Classifier
from darkroom.models.network import last_layer, zero_last_layer
from darkroom.models.pretrained import Pretrained
from darkroom.models.registry import resolve
from darkroom.models.transfer import has_card

# From so many images of each class, or so many in all, a head is combined whose body learns with it.
IMAGES_PER_CLASS = 8
LEAST_IMAGES = 512
# Of these, so many are given to the body at once.
BATCH = 32


def begins_with_classes(config: Config) -> bool:
    """Whether a new head is combined from the known classes.

    One of several layers begins with zeros, and one that may be taken from a model with that model's outputs.
    """
    return config.model.head_init == "classes" and not resolve(config.model)["hidden"] and not starts_from_model(config)


def starts_from_model(config: Config) -> bool:
    """Whether the weights to begin with are those of a model with known classes."""
    return config.train.start_from is not None and has_card(Path(config.train.start_from))


def without_classes(config: Config) -> ModelError:
    """What is wrong where the weights have no layer from which the head is to be combined."""
    return ModelError(
        f"model.head_init: the given weights of {resolve(config.model)['backbone']} hold no dense layer of classes; "
        "set model.head_init to zeros, and search.space.model.head_init too"
    )


@torch.no_grad()
def initialize_head(
    classifier: Classifier, config: Config, weights: Mapping[str, Tensor], train: Split, device: torch.device
) -> None:
    """Set the new head of a pretrained ``classifier`` on ``device`` whose body learns too, as model.head_init says.

    ``weights`` are those of the body's file. Raises ModelError if they have no layer of classes, where it is needed.
    """
    network = classifier.network
    if not isinstance(network, Pretrained):
        return
    zero_last_layer(network.head)
    if not begins_with_classes(config):
        return
    layer = ClassLayer.find(network, weights)
    if layer is None:
        raise without_classes(config)
    last = network.head.get_submodule(last_layer(network.head))
    assert isinstance(last, nn.Linear)
    count = min(len(train), max(LEAST_IMAGES, IMAGES_PER_CLASS * last.out_features))
    features, labels, is_training = [], [], classifier.training
    classifier.eval()
    for rows in train.some_rows(count).split(BATCH):
        images, classes = train.take(rows, device)
        features.append(network.features(images * classifier.scale + classifier.shift).cpu())
        labels.append(classes.cpu())
    classifier.train(is_training)
    seen = Split(torch.cat(features)[:, :, None, None], torch.cat(labels))
    found = combine(layer, seen, last.out_features)
    last.load_state_dict({"weight": found.weight, "bias": found.bias})
