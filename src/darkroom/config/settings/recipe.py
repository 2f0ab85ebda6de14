"""The header of a recipe: its name, its format and a line about it."""

from pydantic import Field

from darkroom.config.settings.section import Section

RECIPE_FORMAT = 1


class Recipe(Section):
    """The experiment in this file, if the file is a measured recipe."""

    name: str | None = Field(None, min_length=1, description="name of the recipe")
    about: str | None = Field(None, min_length=1, description="what it is, in one line")
    format: int = Field(RECIPE_FORMAT, ge=1, le=RECIPE_FORMAT, description="version of this file's form")
