"""From the declared space to Optuna's suggestions."""

import itertools
import json
import math
import os
from collections.abc import Sequence
from typing import Any

import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from darkroom.config import Config, takes_fractions
from darkroom.config.settings import Choices, Range
from darkroom.data.augmentation import COLOR_ONLY
from darkroom.errors import ConfigError, ModelError, SearchError, did_you_mean
from darkroom.models.registry import architectures, build_without_memory, resolve
from darkroom.training.device import check_sharing, count_devices
from darkroom.training.process_group import member

# What can be searched of a model whose head alone is trained.
HEAD = ("hidden", "dropout", "head_init")
# Large enough for every architecture: what is asked is whether its settings go together.
ANY_SHAPE = (3, 224, 224)


def check_space(config: Config) -> None:
    """Refuse a space that the architecture has no use for, and values that it cannot be built with in any case.

    What can be said without the architecture (names, ranges, types) was checked with the settings.

    Raises SearchError.
    """
    taken = architectures()[config.model.name].defaults
    for key in config.search.space.model:
        if key not in taken:
            raise SearchError(
                f"search.space.model.{key}: {config.model.name} does not take it; {did_you_mean(key, taken)}"
            )
    _check_head(config)
    values = {f"model.{key}": _ends(each) for key, each in config.search.space.model.items()}
    for key, candidates in values.items():
        others = itertools.product(*(zip(itertools.repeat(other), values[other]) for other in values if other != key))
        beside = [{}, *map(dict, others)]
        for value in candidates:
            problems = (_refusal(config, {**each, key: value}) for each in beside)
            first = next(problems)
            if first and all(problems):
                as_written = _refusal(config, {}) == first  # whatever the space says
                raise SearchError(first if as_written else f"search.space.{key}: {first}")


def _check_head(config: Config) -> None:
    """Refuse a space that would change the features of a head: they are those of all trials."""
    if "train" in config.search.space.model:
        raise SearchError("search.space.model.train: is the same for all trials; drop it")
    if not config.model.trains_head:
        return
    space = config.search.space
    fixed = {f"model.{key}" for key in space.model} - {f"model.{key}" for key in HEAD}
    fixed |= {f"augment.{key}" for key in space.augment} - {"augment.mixup", "augment.views"}
    if fixed:
        raise SearchError(
            f"search.space.{min(fixed)}: the features of a head are computed once, for all trials; drop it, or set "
            "model.train to all"
        )


def with_all_views(config: Config) -> Config:
    """``config`` with the most views that a trial may have, or the settings as written, with which they are compared.

    All use the first of the same ones.
    """
    searched = config.search.space.augment.get("views")
    if not searched:
        return config
    return config.with_settings({"augment.views": max(config.augment.views, *_ends(searched))})


def check_colors(config: Config, channels: int) -> None:
    """Refuse a space with changes of color where images have one channel. Raises SearchError."""
    for key in COLOR_ONLY:
        if channels == 1 and key in config.search.space.augment:
            raise SearchError(f"search.space.augment.{key}: has no effect on images of one channel; drop it")


def check_devices(config: Config, device: torch.device) -> None:
    """Refuse what train.devices cannot train together, written or searched: the training would, after the search.

    Raises ConfigError, or SearchError for a value of the space.
    """
    train, space = config.train, config.search.space.train
    # One process trains a head, torchrun decides how many train, and of a cluster nothing is known yet.
    if config.model.trains_head or member(os.environ) is not None:
        return
    if train.executor == "ray":
        count = 1 if train.devices == "auto" else int(train.devices)
    else:
        count = count_devices(train, device)
    if count == 1:
        return
    check_sharing(train, count)  # the settings as written are a trial too
    searched = [key for key in ("batch_size", "accumulate") if key in space]
    for values in itertools.product(*(_all(space[key]) for key in searched)):
        try:
            check_sharing(train.model_copy(update=dict(zip(searched, values, strict=True))), count)
        except ConfigError as problem:
            raise SearchError(f"search.space: {problem}") from None


def _all(values: Range | Choices) -> Sequence[int]:
    """The whole numbers of a range, or of choices."""
    if isinstance(values, Choices):
        return [int(value) for value in values.choices]
    return range(int(values.low), int(values.high) + 1, int(values.step or 1))


def _ends(values: Range | Choices) -> tuple[Any, ...]:
    return (values.low, values.high) if isinstance(values, Range) else values.choices


def _refusal(config: Config, settings: dict[str, Any]) -> str | None:
    """Why the architecture refuses its ``settings``; None if it does not, or if only its real weights would show it."""
    try:
        build_without_memory(config.with_settings(settings).model, ANY_SHAPE, classes=2)
    except (ConfigError, ModelError) as problem:
        return str(problem)
    return None


def distributions(space: dict[str, Range | Choices]) -> dict[str, BaseDistribution]:
    """Optuna's form of the space."""
    return {key: _distribution(key, values) for key, values in space.items()}


def _distribution(key: str, values: Range | Choices) -> BaseDistribution:
    if isinstance(values, Choices):
        return CategoricalDistribution([_to_optuna(value) for value in values.choices])
    if takes_fractions(key):
        return FloatDistribution(values.low, values.high, log=values.log, step=values.step)
    return IntDistribution(int(values.low), int(values.high), log=values.log, step=int(values.step or 1))


def starting_point(config: Config) -> dict[str, Any] | None:
    """The settings as written, as a point of the space; None if they lie outside it."""
    written = {**config.flat(), **{f"model.{key}": value for key, value in resolve(config.model).items()}}
    point = {}
    for key, values in config.search.space.flat().items():
        value = tuple(written[key]) if isinstance(written[key], list) else written[key]
        # A space may name a list of one by its only number, as params.yaml may.
        spellings = (value, value[0]) if isinstance(value, tuple) and len(value) == 1 else (value,)
        found = [spelling for spelling in spellings if _contains(values, spelling)]
        if not found:
            return None
        point[key] = _to_optuna(found[0])
    return point


def _contains(values: Range | Choices, value: Any) -> bool:
    if isinstance(values, Choices):
        return value in values.choices
    if not isinstance(value, int | float) or not values.low <= value <= values.high:
        return False
    # Rounded to the nearest step: in binary 0.3 % 0.1 is almost 0.1.
    return values.step is None or math.isclose(math.remainder(value - values.low, values.step), 0, abs_tol=1e-12)


def _to_optuna(value: Any) -> Any:
    """Optuna knows no lists as choices; their JSON stands for them."""
    return json.dumps(value) if isinstance(value, (list, tuple)) else value


def from_optuna(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value.startswith("[") else value
