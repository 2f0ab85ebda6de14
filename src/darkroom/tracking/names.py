"""The names of runs and logged models in MLflow. They show what differs, and are the same in every store."""

import json
import re
from collections.abc import Mapping
from typing import Any

from darkroom.config import Config
from darkroom.config.settings import Augment, Preprocess, Section, Train
from darkroom.data.cache import DatasetCard
from darkroom.errors import counted

Settings = Mapping[str, Mapping[str, Any]]
# Settings that a name lists, at most; the run itself holds all.
MOST = 8
# As opposed to train.seed.
SPLIT_SEED = ("preprocess", "seed")
# MLflow refuses these in the name of a logged model.
NOT_IN_MODEL_NAMES = re.compile(r"""[/:.%"']""")


def training_name(settings: Settings, card: DatasetCard) -> str:
    """Such as "simple-cnn on digits, lr 0.002, 20 epochs": every setting that is not the default, and the epochs.

    ``settings`` are those of the model's file, {section: {key: value}}.
    """
    changed = _changed(settings)
    listed = changed if len(changed) <= MOST else [*changed[: MOST - 1], f"{len(changed) - MOST + 1} more"]
    epochs = counted(settings["train"]["epochs"], "epoch")
    return ", ".join([f"{settings['model']['name']} on {_dataset_name(card)}", *listed, epochs])


def search_name(config: Config, card: DatasetCard) -> str:
    """Such as "search simple-cnn on digits, 10 epochs: lr, dropout": the epochs of a trial, and what is searched."""
    epochs = counted(config.search.epochs or config.train.epochs, "epoch")
    searched = ", ".join(_words(key.partition(".")[2]) for key in config.search.space.flat())
    return f"search {config.model.name} on {_dataset_name(card)}, {epochs}: {searched}"


def model_name(settings: Settings, card: DatasetCard) -> str:
    """The name of the training, as MLflow takes it for a model: "simple-cnn on digits, lr 0_002, 20 epochs"."""
    return NOT_IN_MODEL_NAMES.sub("_", training_name(settings, card))


def _dataset_name(card: DatasetCard) -> str:
    """The dataset; folders of images all have one name, so the fingerprint distinguishes them."""
    return f"{card.name} {card.fingerprint[:8]}" if card.name == "folder" else card.name


def _changed(settings: Settings) -> list[str]:
    """Every setting but the epochs that is not the default, in words."""
    # Imports torch, which takes seconds and is needed only for names of runs.
    from darkroom.models.registry import architectures

    kinds: dict[str, type[Section]] = {"train": Train, "augment": Augment, "preprocess": Preprocess}
    defaults = {"model": architectures()[settings["model"]["name"]].defaults}
    for section, kind in kinds.items():
        defaults[section] = {key: each.default for key, each in kind.model_fields.items() if key != "epochs"}
    changed = []
    for section, known in defaults.items():
        given = {**known, **settings.get(section, {})}
        # Compared as JSON: a file has lists in the place of tuples.
        keys = [key for key in known if json.dumps(given[key]) != json.dumps(known[key])]
        changed += [
            _shown_setting("split seed" if (section, key) == SPLIT_SEED else _words(key), given[key]) for key in keys
        ]
    return changed


def _shown_setting(name: str, value: Any) -> str:
    match value:
        case None | False:
            return f"no {name}"
        case True:
            return name
        case float():
            return f"{name} {value:.3g}"
        case list() | tuple():
            return f"{name} {'-'.join(map(str, value))}"
        case _:
            return f"{name} {value}"


def _words(key: str) -> str:
    return key.replace("_", " ")
