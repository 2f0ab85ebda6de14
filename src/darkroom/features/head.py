"""Train a head on features: its initial weights, and the whole model that it is joined to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from darkroom.config import Config
from darkroom.data.batches import Split
from darkroom.data.cache import DatasetCard
from darkroom.features.compute import find_features
from darkroom.features.files import CLASSES, Features
from darkroom.features.task import head_config
from darkroom.models.class_layer import ClassLayer
from darkroom.models.classifier import Classifier, build_classifier
from darkroom.models.head_init import begins_with_classes, starts_from_model, without_classes
from darkroom.models.network import zero_last_layer
from darkroom.models.pretrained import Pretrained
from darkroom.models.transfer import read_start, transfer_weights
from darkroom.training.checkpoint import Checkpoint
from darkroom.training.fit import fit, start_classifier
from darkroom.training.loop import EpochMetrics, FitResult
from darkroom.workspace import Workspace

# The first dense layer of an mlp.
FIRST = "1"


@dataclass(frozen=True)
class Head:
    """Features in ``directory``, and the ``whole`` model that computed them."""

    directory: Path
    features: Features
    whole: Classifier

    def join(self, trained: Classifier) -> Classifier:
        """The whole model with the ``trained`` head: from raw pixels to logits, on the CPU, in evaluation mode."""
        state = trained.network.state_dict()
        weight, bias = (state[f"{FIRST}.{name}"] for name in ("weight", "bias"))
        scale, shift = _normalization(trained)
        # W (x * scale + shift) + b, with the scale and the shift in the layer: the model needs no others.
        state[f"{FIRST}.weight"] = (weight.double() * scale).to(weight.dtype)
        state[f"{FIRST}.bias"] = (bias.double() + weight.double() @ shift).to(bias.dtype)
        cast(Pretrained, self.whole.network).head.load_state_dict(state)
        return self.whole.cpu().eval()


def open_head(config: Config, workspace: Workspace, card: DatasetCard, device: torch.device) -> Head | None:
    """The head, if ``config`` trains it alone, with its features, computed if needed; None if more is trained.

    Raises ModelError or CacheError.
    """
    if not config.model.trains_head:
        return None
    whole, classes = _build_whole(config, card)
    directory, features = find_features(
        config, card, workspace.processed(config.dataset.name), workspace.features, whole, device
    )
    if classes:
        classes.write(directory / CLASSES)
    else:
        (directory / CLASSES).unlink(missing_ok=True)
    return Head(directory, replace(features, classes=classes), whole)


def class_layer(config: Config, features: Features) -> ClassLayer | None:
    """The layer of known classes from which a new head is combined; None if it is not.

    Raises ModelError if there is no such layer.
    """
    if not begins_with_classes(config):
        return None
    if features.classes is None:
        raise without_classes(config)
    return features.classes


def new_head(
    config: Config, card: DatasetCard, train: Split, device: torch.device, initial: ClassLayer | None = None
) -> Classifier:
    """A head as the training of ``config`` on features begins with it: its last layer is 0, or it is ``initial``.

    ``config`` and ``card`` are as of ``head_config`` and ``head_card``. Raises ModelError or ConfigError.
    """
    head = start_classifier(config, card, train, device)
    zero_last_layer(head.network)
    if initial:
        _load_weights(head, {f"{FIRST}.weight": initial.weight, f"{FIRST}.bias": initial.bias})
    return head


def start_head(config: Config, features: Features, device: torch.device) -> Classifier:
    """The initial head of a training, on ``device``: new, or with the outputs for the classes of train.start_from.

    It maps features [N, features, 1, 1] to logits. Raises ModelError.
    """
    initial = features.class_head if class_layer(config, features) else None
    head = new_head(head_config(config), features.card, features.train, device, initial)
    # Without a card, the classes of its outputs are unknown. A search does not read its weights for each trial.
    if config.train.start_from and starts_from_model(config):
        with torch.random.fork_rng(devices=[]):
            whole = build_classifier(config.model, features.dataset)
            taken = transfer_weights(read_start(Path(config.train.start_from)), whole, config.model, features.dataset)
        if taken.kept:
            _load_weights(head, cast(Pretrained, whole.network).head.state_dict())
    return head


def train_head(
    config: Config,
    head: Head,
    device: torch.device,
    *,
    checkpoint: Checkpoint,
    on_epoch: Callable[[EpochMetrics], None],
) -> tuple[Classifier, FitResult]:
    """Train a new head with the settings of ``config``, and join it to the body; see ``fit``."""
    trained = start_head(config, head.features, device)
    settings = head_config(config)
    train, val = head.features.train, head.features.val
    result = fit(
        trained, train, val, settings.train, settings.augment, device, checkpoint=checkpoint, on_epoch=on_epoch
    )
    return head.join(trained), result


def _load_weights(head: Classifier, state: Mapping[str, Tensor]) -> None:
    """Give ``head`` the weights of one for plain features: what ``Head.join`` does, the other way round."""
    scale, shift = (value.cpu() for value in _normalization(head))
    weight = state[f"{FIRST}.weight"].double() / scale
    bias = state[f"{FIRST}.bias"].double() - weight @ shift
    head.network.load_state_dict({**state, f"{FIRST}.weight": weight.float(), f"{FIRST}.bias": bias.float()})


def _normalization(head: Classifier) -> tuple[Tensor, Tensor]:
    return head.scale.double().flatten(), head.shift.double().flatten()


def _build_whole(config: Config, card: DatasetCard) -> tuple[Classifier, ClassLayer | None]:
    """The model with the initial weights of a training, and the layer of classes that they came with, if any.

    Its head is replaced in the end.
    """
    with torch.random.fork_rng(devices=[]):
        whole = build_classifier(config.model, card)
    network = cast(Pretrained, whole.network)
    start = read_start(Path(config.train.start_from) if config.train.start_from else network.fetch())
    if config.train.start_from:
        transfer_weights(start, whole, config.model, card)
    else:
        whole.initialize(torch.empty(0, *card.shape, dtype=torch.uint8))
    return whole.eval(), None if start.card else ClassLayer.find(network, start.weights)
