"""The settings of the hyperparameter search, and the values that it may try."""

from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, PlainValidator, Strict, Tag, WithJsonSchema, model_validator

from darkroom.config.settings.section import Section
from darkroom.config.types import AutoOrCount, Count, Number, Seed
from darkroom.errors import quoted

# Of which type a choice must be is up to the setting that it is for.
Choice = Annotated[Any, BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)]


class Range(Section):
    """An interval to search, of whole numbers where the setting takes only those."""

    low: Number
    high: Number
    log: bool = False
    step: Annotated[Number, Field(gt=0), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})] | None = None

    @model_validator(mode="after")
    def _is_an_interval(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got low {self.low}, high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs low above 0, got {self.low}")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other; drop one")
        # Exactly as they were written: in binary 0.1 does not divide 0.5.
        low, high, step = (Fraction(str(value)) for value in (self.low, self.high, self.step or 1))
        if self.step is not None and (high - low) % step:
            raise ValueError(f"step must divide high - low, got low {self.low}, high {self.high}, step {self.step}")
        return self


class Choices(Section):
    """A set of values to choose from."""

    choices: Annotated[tuple[Choice, ...], Strict(False)] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _values_differ(self) -> Self:
        if any(value in self.choices[:position] for position, value in enumerate(self.choices)):
            raise ValueError(f"choices must differ, got {quoted(list(self.choices))}")
        return self


def _kind(values: Any) -> str:
    """Distinguish the two kinds of values, so that an error is about one of them only."""
    listed = "choices" in values if isinstance(values, dict) else isinstance(values, Choices)
    return "choices" if listed else "range"


Values = Annotated[Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")], Discriminator(_kind)]


class Space(Section):
    """What a search may vary, by section and setting."""

    model: dict[str, Values] = Field(default_factory=dict)
    train: dict[str, Values] = Field(default_factory=dict)
    augment: dict[str, Values] = Field(default_factory=dict)

    def flat(self) -> dict[str, Range | Choices]:
        """The values to try as {"section.key": values}."""
        return {
            f"{section}.{key}": values
            for section in type(self).model_fields
            for key, values in getattr(self, section).items()
        }


def _fuse(value: Any) -> Any:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if value not in ("auto", "off") and not (is_number and 1 <= value <= 1024):
        raise ValueError(f"expected auto, off, or a number from 1 to 1024, got {quoted(value)}")
    return value


class Search(Section):
    """The hyperparameter search."""

    trials: int = Field(
        0,
        ge=0,
        le=100_000,
        description="configurations to try; 0 skips the search and trains with the settings as written",
    )
    minutes: float | None = Field(None, gt=0, description="wall time after which no trial is begun; empty: no limit")
    stall: int | None = Field(
        None, ge=1, description="trials without improvement that end the search; empty: try them all"
    )
    epochs: int | None = Field(None, ge=1, description="of each trial; empty: as train.epochs")
    sampler: Literal["tpe", "gp", "cma-es", "random", "grid"] = Field(
        "tpe", description="suggests configurations: tpe, gp, cma-es, random, or grid for every combination"
    )
    pruner: Literal["median", "hyperband", "successive-halving", "wilcoxon", "none"] = Field(
        "median", description="stops trials that fall behind: median, hyperband, successive-halving, wilcoxon or none"
    )
    second_objective: Literal["none", "latency", "parameters"] = Field(
        "none", description="what is weighed against train.monitor: none, latency or parameters; needs pruner none"
    )
    finalists: int = Field(
        2,
        ge=0,
        le=100,
        description="best configurations trained again, beside the settings as written; 0 trusts the trials",
    )
    repeats: int = Field(
        3, ge=2, le=1000, description="seeds that each of them is trained with: is the gain more than luck?"
    )
    fuse: Annotated[int | str, PlainValidator(_fuse, json_schema_input_type=Literal["auto", "off"] | Count)] = Field(
        "auto", description="trials trained as one program: auto, off, or how many at most"
    )
    workers: AutoOrCount = Field(
        "auto", description="processes that train trials: auto (what suits model and machine) or how many"
    )
    executor: Literal["local", "ray"] = Field("local", description="where the workers run: local, or ray for a cluster")
    ray_address: str | None = Field(
        None, min_length=1, description="ray only: the cluster's address; empty: a cluster on this machine"
    )
    worker_cpus: int = Field(1, ge=1, le=1024, description="ray only: processors of each worker")
    worker_gpus: float = Field(0.0, ge=0, le=1024, description="ray only: GPUs of each worker, such as 1 or 0.5")
    storage: str | None = Field(
        None, min_length=1, description="Optuna's storage, such as postgresql://user@host/name; empty: a journal file"
    )
    seed: Seed = Field(0, description="of the suggestions")
    space: Space = Field(
        default_factory=Space,
        description="any key of model, train and augment: {low, high[, log][, step]} or {choices: [...]}",
    )
