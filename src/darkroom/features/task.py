"""What is trained: the whole model or, if the body is frozen, the head alone."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache

from darkroom.config import Config
from darkroom.config.settings import Augment, Model
from darkroom.data.cache import DatasetCard
from darkroom.models.pretrained import Pretrained
from darkroom.models.registry import build, build_without_memory, resolve

# A backbone resizes images of any size.
ANY_SHAPE = (3, 32, 32)


def trained_part(config: Config, card: DatasetCard) -> tuple[Config, DatasetCard]:
    """The settings and the card by which a training's time and memory are estimated and its precision is chosen.

    Raises ModelError for an unknown backbone.
    """
    if not config.model.trains_head:
        return config, card
    count = _count_features(resolve(config.model)["backbone"])
    return head_config(config, views=1), head_card(card, (0.0,) * count, (1.0,) * count)


def head_config(config: Config, *, views: int | None = None) -> Config:
    """The settings of a head as a model of its own: an mlp on features. ``views`` stand for those that are written."""
    settings = resolve(config.model)
    model = Model(name="mlp").model_copy(update={key: settings[key] for key in ("hidden", "dropout")})
    train = config.train.model_copy(update={"start_from": None})
    augment = Augment(mixup=config.augment.mixup, views=views or config.augment.views)
    return config.model_copy(update={"model": model, "train": train, "augment": augment})


def head_card(card: DatasetCard, mean: Sequence[float], std: Sequence[float]) -> DatasetCard:
    """``card`` of features that have this ``mean`` and ``std``: an image of so many channels and one pixel each."""
    # Those of a card are of pixels scaled to 0 to 1.
    means, deviations = (tuple(value / 255 for value in values) for values in (mean, std))
    return replace(card, shape=(len(mean), 1, 1), mean=means, std=deviations)


def without_effect(config: Config, searched: Collection[str] = ()) -> list[str]:
    """A line on each kind of settings that have no effect on what is trained; others may yet, by those ``searched``."""
    model, found = config.model, []
    if model.last_blocks is not None and model.train != "last-blocks" and model.name == "pretrained":
        found.append("model.last_blocks has no effect; set model.train to last-blocks")
    several = model.hidden and "model.hidden" not in searched
    if model.head_init == "classes" and several and model.name == "pretrained":
        found.append("model.head_init has no effect on a head of several layers; drop model.hidden")
    if not model.trains_head:
        return found
    if config.augment.views == 1 and config.augment.changes_images and "augment.views" not in searched:
        found.append("augment changes no image for a head without views; set augment.views, or model.train to all")
    if model.dropout and not model.hidden and "model.hidden" not in searched:
        found.append("model.dropout has no effect on a head of one layer; set model.hidden")
    if config.train.devices != 1:
        found.append("train.devices has no effect on a head alone; set model.train to all")
    if config.train.executor != "local":
        found.append("train.executor has no effect on a head alone; set model.train to all")
    given = [key for key in ("freeze_epochs", "layer_lr_decay", "freeze_norm") if getattr(model, key) is not None]
    return found + [f"model.{key} has no effect on a head alone; set model.train to all" for key in given]


@cache
def _count_features(backbone: str) -> int:
    settings = Model(name="pretrained", backbone=backbone)
    network = build_without_memory(settings, ANY_SHAPE, 2) or build(settings, ANY_SHAPE, 2)
    assert isinstance(network, Pretrained)
    return network.feature_count
