"""The JSON schema of params.yaml, which editors use for completion and checks."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from darkroom.config import Config, tunable_keys


def schema() -> dict[str, Any]:
    """The schema of params.yaml and of recipes, without what a schema cannot express, such as rules across settings."""
    found = Config.model_json_schema(schema_generator=_Untitled)
    for section in found["properties"].values():
        del section["default"]  # which each of its keys has
    # Only some settings can be searched: they are named, and all others refused.
    space = found["$defs"]["Space"]["properties"]
    for section, values in space.items():
        settings = found["$defs"][section.capitalize()]["properties"]
        keys = [key.partition(".")[2] for key in tunable_keys() if key.startswith(f"{section}.")]
        kinds = values["additionalProperties"]
        values["properties"] = {key: {"description": settings[key]["description"]} | kinds for key in keys}
        values["additionalProperties"] = False
    return {"$schema": GenerateJsonSchema.schema_dialect, **found}


class _Untitled(GenerateJsonSchema):
    """Without titles, which repeat the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False
