"""`darkroom datasets`: what dataset.name can be set to."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom.datasets.catalog import CATALOG
from darkroom.utils.console import output


def run() -> None:
    """Print every dataset with its description."""
    table = Table("dataset.name", "what it is", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, source in CATALOG.items():
        table.add_row(name, source.about)
    output.print(table)
