"""The key of a study: the settings and the data that its trials share."""

import json
from collections.abc import Mapping
from typing import Any

from darkroom.config import Config
from darkroom.data.cache import DatasetCard
from darkroom.utils.files import digest

# Of the section `search`: how much is tried, and where it runs. None of it changes what a trial is.
FREE = {"trials", "minutes", "stall", "finalists", "repeats", "fuse", "workers", "executor", "ray_address"}
FREE |= {"worker_cpus", "worker_gpus", "storage"}
# Of the training's settings: where the final model is trained.
ELSEWHERE = {"train.executor", "train.ray_address"}


def study_purpose(config: Config, card: DatasetCard) -> dict[str, Any]:
    """Everything that a trial depends on beside its own parameters, as {"section.key": a value of JSON}."""
    space = config.search.space.flat()
    of_trials = {
        key: value
        for key, value in config.flat().items()
        if key.split(".")[0] in {"model", "augment", "train"} and key not in ELSEWHERE
    }
    settled = config.search.model_dump(mode="json", exclude=FREE | {"space"})
    return {
        "dataset.name": card.name,
        "dataset's fingerprint": card.fingerprint,
        **of_trials,
        **{f"search.{key}": value for key, value in settled.items()},
        **{f"search.space.{key}": values.model_dump(mode="json", exclude_none=True) for key, values in space.items()},
    }


def base_name(config: Config, card: DatasetCard) -> str:
    """Names the studies of a purpose."""
    return f"{card.name}-{config.model.name}-{digest(study_purpose(config, card))[:16]}"


def differences(made_for: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs, as "key: was one value, is another"."""
    return [
        f"{key}: was {_shown(key, made_for)}, is {_shown(key, wanted)}"
        for key in dict.fromkeys([*made_for, *wanted])
        if made_for.get(key, ...) != wanted.get(key, ...)
    ]


def _shown(key: str, values: Mapping[str, Any]) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "absent"
