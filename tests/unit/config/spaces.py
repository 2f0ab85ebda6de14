"""Search spaces as sections of params.yaml."""

from typing import Any


def space(section: str, key: str, values: Any, **search: Any) -> dict[str, Any]:
    return {"search": {"space": {section: {key: values}}, **search}}
