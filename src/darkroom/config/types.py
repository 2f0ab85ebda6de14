"""Types of settings that several sections share or that have special rules."""

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, Strict, WithJsonSchema

from darkroom.errors import quoted

# YAML has lists only; strict mode would refuse them for tuples. One number is a list of one.
PositiveInt = Annotated[int, Field(gt=0, le=65_536)]
PositiveInts = Annotated[
    tuple[PositiveInt, ...],
    Strict(False),
    Field(max_length=8),
    BeforeValidator(
        lambda value: [value] if isinstance(value, int) else value,
        json_schema_input_type=PositiveInt | Annotated[list[PositiveInt], Field(max_length=8)],
    ),
]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Strict(False)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise ValueError(f"expected a finite number, got {quoted(value)}")
    return value


def _channels(value: Any) -> Any:
    if isinstance(value, bool | float):  # which are equal to 1, and so a choice
        raise ValueError(f"expected 1 or 3, got {value!r}")
    return value


def _auto_or_count(value: Any) -> Any:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if value != "auto" and not (is_number and 1 <= value <= 1024):
        raise ValueError(f"expected auto, or a number from 1 to 1024, got {quoted(value)}")
    return value


Count = Annotated[int, Field(ge=1, le=1024)]
AutoOrCount = Annotated[int | str, PlainValidator(_auto_or_count, json_schema_input_type=Literal["auto"] | Count)]

# Of a plain union pydantic would report each member.
Number = Annotated[int | float, PlainValidator(_number), WithJsonSchema({"type": "number"})]

Channels = Annotated[Literal[1, 3], BeforeValidator(_channels)]
