"""The sections of params.yaml: every setting, its type, its range, and the rules within a section.

Each section is a class, each key a field: its type and range are the rule, its description the
documentation. `make params` writes both to params.yaml and params.schema.json. Everything is
checked when the file is read, before any work begins.
"""

from darkroom.config.settings.audit import Audit
from darkroom.config.settings.data import Data, Dataset, Preprocess
from darkroom.config.settings.production import MAX_MODEL_NAME, Evaluate, Gate, Serve, Tracking, registrable
from darkroom.config.settings.recipe import RECIPE_FORMAT, Recipe
from darkroom.config.settings.search import Choices, Range, Search, Space
from darkroom.config.settings.section import Section
from darkroom.config.settings.training import Augment, Model, Train

__all__ = [
    "MAX_MODEL_NAME",
    "RECIPE_FORMAT",
    "Audit",
    "Augment",
    "Choices",
    "Data",
    "Dataset",
    "Evaluate",
    "Gate",
    "Model",
    "Preprocess",
    "Range",
    "Recipe",
    "Search",
    "Section",
    "Serve",
    "Space",
    "Tracking",
    "Train",
    "registrable",
]
