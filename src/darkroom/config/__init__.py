"""Read params.yaml as one frozen, checked object; the rules across sections, and the text of errors."""

import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError, model_validator
from pydantic_core import ErrorDetails

from darkroom.config.bounded_yaml import read_yaml
from darkroom.config.settings import (
    MAX_MODEL_NAME,
    RECIPE_FORMAT,
    Audit,
    Augment,
    Choices,
    Data,
    Dataset,
    Evaluate,
    Gate,
    Model,
    Preprocess,
    Range,
    Recipe,
    Search,
    Section,
    Serve,
    Tracking,
    Train,
    registrable,
)
from darkroom.errors import MAX_QUOTED, ConfigError, did_you_mean, printable, quoted

# Settings of a model that a search may vary where the weights to begin with are given.
SEARCHED_WITH_WEIGHTS = {
    *("dropout", "freeze_epochs", "last_blocks", "layer_lr_decay", "freeze_norm", "head_init"),
    *("freeze_norm_scale", "whitening_epochs"),
}
ARCHIVE_SUFFIX = re.compile(r"(\.tar)?\.(zip|tar|gz|bz2|xz|tgz|tbz2?|txz)$", re.IGNORECASE)
# Of what is wrong with a file.
MAX_LINES = 20


class Config(Section):
    """All of params.yaml."""

    recipe: Recipe = Recipe()
    dataset: Dataset = Dataset()
    preprocess: Preprocess = Preprocess()
    data: Data = Data()
    audit: Audit = Audit()
    model: Model = Model()
    augment: Augment = Augment()
    train: Train = Train()
    search: Search = Search()
    evaluate: Evaluate = Evaluate()
    gate: Gate = Gate()
    serve: Serve = Serve()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _alternation_meets_each_image(self) -> "Config":
        if self.augment.flip == "alternating" and self.train.sampler == "balanced":
            raise ValueError(
                "augment.flip: alternating needs each image once an epoch, but train.sampler is balanced; choose random"
            )
        return self

    @model_validator(mode="after")
    def _streams_in_an_order_of_its_own(self) -> "Config":
        if self.data.local_cache_gb is not None and self.train.sampler == "balanced":
            raise ValueError(
                "data.local_cache_gb: images arrive some files at a time, but train.sampler is balanced, which draws "
                "from all; choose shuffle, and train.class_weights if some classes have few images"
            )
        return self

    @model_validator(mode="after")
    def _views_are_of_a_head(self) -> "Config":
        views = self.augment.views
        if not self.model.trains_head:
            if views > 1:
                raise ValueError(
                    f"augment.views: {views} views are for a head alone; set model.name to pretrained and model.train "
                    "to head, or augment.views to 1"
                )
            return self
        if self.augment.cutmix:
            raise ValueError("augment.cutmix: features have no places to paste; set it to 0, or take augment.mixup")
        if views > 1 and not self.augment.changes_images:
            raise ValueError(
                f"augment.views: {views} views of an image that nothing changes are the same; set augment.flip, "
                "augment.crop_scale or augment.policy, or augment.views to 1"
            )
        return self

    @model_validator(mode="after")
    def _training_begins_with_one_model(self) -> "Config":
        if self.train.start_from is None:
            return self
        if self.model.weights_path is not None:
            raise ValueError("train.start_from: model.weights_path names weights to begin with as well; keep one")
        for key in self.search.space.model:
            if key not in SEARCHED_WITH_WEIGHTS:
                raise ValueError(
                    f"search.space.model.{key}: cannot be searched with train.start_from, whose weights fit one "
                    "architecture; drop one of the two"
                )
        return self

    @model_validator(mode="after")
    def _space_is_searchable(self) -> "Config":
        trial = {} if self.search.epochs is None else {"train.epochs": self.search.epochs}
        if trial:
            self._try(trial, blame="search.epochs")
        space = self.search.space.flat()
        tunable = tunable_keys()
        for key, values in space.items():
            if key not in tunable:
                section, name = key.split(".", 1)
                near = did_you_mean(name, [other.split(".")[1] for other in tunable if other.startswith(f"{section}.")])
                raise ValueError(f"search.space.{key}: cannot be searched; {near}")
            for value in (values.low, values.high) if isinstance(values, Range) else values.choices:
                self._try({key: value}, blame=f"search.space.{key}")
                if trial:
                    self._try({**trial, key: value}, blame=f"search.space.{key}, with search.epochs")
            if isinstance(values, Choices):
                found = [self.with_settings({key: value}).flat()[key] for value in values.choices]
                if any(value in found[:position] for position, value in enumerate(found)):
                    raise ValueError(f"search.space.{key}: choices must differ, got {quoted(list(values.choices))}")
            if isinstance(values, Range) and isinstance(values.step, float) and not takes_fractions(key):
                raise ValueError(f"search.space.{key}.step: expected integer, got {values.step}")
        if self.search.trials and not space:
            raise ValueError("search.space: empty, but search.trials is not 0; name settings to search or set it to 0")
        return self

    @model_validator(mode="after")
    def _sampler_takes_the_space(self) -> "Config":
        search, space = self.search, self.search.space.flat()
        if search.sampler == "cma-es":
            for key, values in space.items():
                if isinstance(values, Choices):
                    raise ValueError(f"search.space.{key}: search.sampler cma-es takes no choices; give low and high")
        if search.sampler == "grid":
            for key, values in space.items():
                if isinstance(values, Range) and values.step is None and takes_fractions(key):
                    raise ValueError(f"search.space.{key}: search.sampler grid needs a step; add one, or list choices")
            count = math.prod(map(_count, space.values()))
            if search.trials and count > search.trials:
                raise ValueError(
                    f"search.sampler: a grid of this space has {count} points, but search.trials is {search.trials}; "
                    "raise it, search fewer values, or take another sampler"
                )
        return self

    @model_validator(mode="after")
    def _two_objectives_are_searchable(self) -> "Config":
        search = self.search
        if search.second_objective == "none":
            return self
        if search.pruner != "none":
            raise ValueError(
                f"search.pruner: {search.pruner} judges by one metric, but search.second_objective is "
                f"{search.second_objective}; set search.pruner to none"
            )
        if search.sampler == "cma-es":
            raise ValueError(
                f"search.sampler: cma-es takes one objective, but search.second_objective is "
                f"{search.second_objective}; choose from: tpe, gp, random, grid"
            )
        return self

    def _try(self, settings: Mapping[str, Any], blame: str) -> None:
        try:
            self.with_settings(settings)
        except ConfigError as problem:
            raise ValueError(f"{blame}: {problem.lines[0]}") from None

    @property
    def registered_model(self) -> str:
        """Name in MLflow's registry: one per dataset, so that only comparable models compete."""
        folder = ARCHIVE_SUFFIX.sub("", Path(self.dataset.path).name) or "folder"
        data = folder if self.dataset.name == "folder" else self.dataset.name
        return self.tracking.registered_model or registrable(printable(f"darkroom-{data}"))[:MAX_MODEL_NAME]

    def with_settings(self, settings: Mapping[str, Any]) -> "Config":
        """A copy in which ``settings``, {"section.key": value}, take the place of the present values.

        Raises ConfigError as reading a file does. The copy has no search space: its values are decided.
        """
        tree = self.model_dump(exclude={"search"})
        for key, value in settings.items():
            section, _, name = key.partition(".")
            tree.setdefault(section, {})[name] = value
        return parse(tree | {"search": {"trials": 0}}, where="")

    def flat(self) -> dict[str, Any]:
        """Every setting as {"section.key": value}."""
        return {
            f"{section}.{key}": value
            for section, fields in self.model_dump(mode="json").items()
            for key, value in fields.items()
        }


def _count(values: Range | Choices) -> int:
    """How many values of a range or a list a grid tries; all whole numbers if there is no step."""
    if isinstance(values, Choices):
        return len(values.choices)
    low, high, step = (Fraction(str(value)) for value in (values.low, values.high, values.step or 1))
    return int((high - low) / step) + 1


def tunable_keys() -> list[str]:
    """The settings that a search may vary, as "section.key"."""
    fixed = {"model.name", "train.epochs", "train.monitor", "train.device", "train.devices", "train.precision"}
    fixed |= {"train.compile", "train.deterministic", "train.start_from", "train.seed"}
    fixed |= {"train.executor", "train.ray_address"}
    sections = (("model", Model), ("train", Train), ("augment", Augment))
    keys = [f"{section}.{key}" for section, kind in sections for key in kind.model_fields]
    return [key for key in keys if key not in fixed]


def takes_fractions(key: str) -> bool:
    """Whether the setting "section.key" is a float."""
    section, name = key.split(".")
    kind = Config.model_fields[section].annotation
    assert isinstance(kind, type), "sections are classes"
    assert issubclass(kind, Section), "sections are classes"
    annotation = kind.model_fields[name].annotation
    return float in (annotation, *get_args(annotation))


def load(path: Path) -> Config:
    """Read and check ``path``.

    Raises ConfigError with one line for each thing that is wrong.
    """
    tree = read_yaml(path)
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected sections such as `dataset:` and `train:`, got a {type(tree).__name__}")
    recipe = tree.get("recipe")
    form = recipe.get("format") if isinstance(recipe, dict) else None
    if isinstance(form, int) and form > RECIPE_FORMAT:
        # Before all else: what a newer form may hold would look like mistakes.
        raise ConfigError(
            f"{path}: recipe.format: {form} is newer than this Darkroom reads ({RECIPE_FORMAT}); update Darkroom"
        )
    return parse(tree, where=f"{path}: ")


def parse(tree: Mapping[str, Any], where: str) -> Config:
    """Check a tree of sections. Raises ConfigError; each line of it begins with ``where``."""
    try:
        return Config.model_validate(tree)
    except ValidationError as problem:
        raise ConfigError(*_lines(problem.errors(), where)) from None


def _lines(errors: Sequence[ErrorDetails], where: str) -> list[str]:
    """A line for each error; of very many errors, the first."""
    lines: dict[str, None] = {}
    for position, error in enumerate(errors):
        left = len(errors) - position
        if len(lines) == MAX_LINES - 1 and left > 1:
            return [*lines, f"{where}{left:,} more mistakes"]
        lines[where + _sentence(error)] = None
    return list(lines)


def _sentence(error: ErrorDetails) -> str:
    """One pydantic error as `key: rule, got value; what to do`."""
    location = [str(part) for part in error["loc"]]
    known = _known_keys(location[:-1])
    if location[:2] == ["search", "space"]:
        del location[4:5]  # the kind of values, which pydantic names although no user has written it
    key = ".".join(part[:MAX_QUOTED] for part in location)
    got = error["input"]
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden" | "invalid_key":
            return f"{key}: unknown key; {did_you_mean(location[-1], known)}"
        case "literal_error" if isinstance(got, str) and "'" in context["expected"]:
            choices = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            return f"{key}: unknown value {quoted(got)}; {_choices(got, choices)}"
        case "literal_error":
            return f"{key}: expected {context['expected']}, got {quoted(got)}"
        case "value_error":
            rule = str(context["error"])
            return f"{key}.{rule}" if key in Config.model_fields else f"{key}: {rule}" if key else rule
        case "missing":
            return f"{key}: required, but not given"
        case "too_short":
            return f"{key}: expected at least {context['min_length']} value, got {quoted(got)}"
        case "string_too_long":
            return f"{key}: expected at most {context['max_length']} characters, got {quoted(got)}"
        case "string_too_short":
            return f"{key}: must not be empty"
        case "tuple_type":
            return f"{key}: expected a list, got {quoted(got)}"
        case "too_long":
            return f"{key}: expected at most {context['max_length']} values, got {quoted(got)}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{key}: expected a section with keys below it, got {quoted(got)}"
        case _:
            rule = error["msg"].removeprefix("Input should be ").removeprefix("a valid ")
            return f"{key}: expected {rule[0].lower()}{rule[1:]}, got {quoted(got)}"


def _choices(got: str, choices: list[str]) -> str:
    hint = did_you_mean(got, choices)
    every = f"choose from: {', '.join(choices)}"
    return hint if hint == every else f"{hint} ({every})"


def _known_keys(location: list[str]) -> list[str]:
    kind: type[BaseModel] = Config
    for part in location:
        field = kind.model_fields.get(part)
        if field is None:  # below search.space, where the keys are settings
            return list((Choices if location[-1] == "choices" else Range).model_fields)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            kind = field.annotation
    return list(kind.model_fields)
