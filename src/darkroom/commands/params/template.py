"""params.yaml as text: every setting with its value, explained by its description."""

import io
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from darkroom.config import Config

HEAD = """\
# yaml-language-server: $schema=params.schema.json
# Every setting of Darkroom. `dvc repro` redoes only the stages that a changed key belongs to.
# Empty takes the default that the line describes.
"""
# Where a comment begins, unless the value before it is longer.
COLUMN = 26


def render(settings: Mapping[str, Any]) -> str:
    """A complete params.yaml with these settings, and the defaults of all others.

    ``settings`` is {section: {key: value}} as YAML holds them, and valid. The section `recipe` is left out where
    nothing is given of it.
    """
    lines = [HEAD.rstrip()]
    for section, defaults in Config().model_dump(mode="json").items():
        given = settings.get(section, {})
        if section == "recipe" and not given:
            continue
        lines += ["", f"{section}:", *_section(section, defaults | given)]
    return "\n".join(lines) + "\n"


def _section(section: str, values: Mapping[str, Any]) -> Iterator[str]:
    fields = type(getattr(Config(), section)).model_fields
    values = {key: values[key] for key in fields}
    space = values.pop("space", None)  # of several lines, and last
    for key, entry in zip(values, _entries(values), strict=True):
        # What a recipe says of itself needs no explanation.
        yield _line(f"  {entry}", None if section == "recipe" else fields[key].description)
    if space is not None:
        yield from _space(space, fields["space"].description)


def _space(space: Mapping[str, Mapping[str, Any]], comment: str | None) -> Iterator[str]:
    filled = {section: values for section, values in space.items() if values}
    yield _line("  space:" if filled else "  space: {}", comment)
    for section, values in filled.items():
        yield f"    {section}:"
        yield from (f"      {entry}" for entry in _entries(values))


def _line(text: str, comment: str | None) -> str:
    return f"{text:<{COLUMN - 2}}  # {comment}" if comment else text


def _entries(values: Mapping[str, Any]) -> list[str]:
    """Each as `key: value` in one line, lists and mappings in brackets."""
    entries, written, yaml = CommentedMap((key, _quoted(value)) for key, value in values.items()), io.StringIO(), YAML()
    yaml.default_flow_style, yaml.width = True, sys.maxsize
    entries.fa.set_block_style()
    yaml.dump(entries, written)
    return written.getvalue().splitlines()


def _quoted(value: Any) -> Any:
    """The value, with quotes around texts that other YAML parsers may read as another type, such as ::1."""
    if isinstance(value, str) and not value[:1].isalpha():
        return DoubleQuotedScalarString(value)
    return [_quoted(each) for each in value] if isinstance(value, list) else value
