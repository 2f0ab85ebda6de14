"""`darkroom architectures`: what model.name can be set to."""

import json

from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom.models.registry import architectures
from darkroom.utils.console import output


def run() -> None:
    """Print every architecture, with its settings and their defaults."""
    table = Table("model.name", "what it is", "its settings", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for architecture in architectures().values():
        settings = ", ".join(f"{key} {json.dumps(value)}" for key, value in architecture.defaults.items())
        table.add_row(architecture.name, architecture.about, settings)
    output.print(table)
