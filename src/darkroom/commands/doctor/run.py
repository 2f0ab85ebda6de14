"""`darkroom doctor`: all checks, as lines, and the repairs that are safe."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from darkroom.commands.doctor import machine, pipeline, settings
from darkroom.commands.doctor.finding import Finding, examined
from darkroom.config import Config
from darkroom.errors import counted
from darkroom.utils.console import messages, output
from darkroom.workspace import Workspace


def run(config: Config, workspace: Workspace, *, fix: bool) -> bool:
    """Print the findings of all checks; with ``fix``, make the safe repairs first. Returns whether nothing is wrong."""
    found = list(examine(config, workspace))
    if fix and (repairs := [each for each in found if each.repair]):
        for each in repairs:
            assert each.repair
            each.repair()
            messages.print(f"doctor: repaired: {each.line.partition(';')[0]}")
        found = list(examine(config, workspace))
    table = Table("", "area", "found", box=None, padding=(0, 1, 0, 0), show_header=False)
    for each in found:
        verdict = Text("wrong", "bold red") if each.is_wrong else Text("ok", "green")
        table.add_row(verdict, each.area, each.line)
    output.print(table)
    count = sum(each.is_wrong for each in found)
    repairable = sum(each.repair is not None for each in found)
    if count:
        hint = f"; `darkroom doctor --fix` repairs {repairable} of them" if repairable else ""
        output.print(f"{counted(count, 'line')} wrong{hint}.")
    return not count


def examine(config: Config, workspace: Workspace) -> Iterator[Finding]:
    """Run every check without changing anything. A problem that several checks find is reported once."""
    reported = set()
    for each in _examine(config, workspace):
        if each.line not in reported:
            reported.add(each.line)
            yield each


def _examine(config: Config, workspace: Workspace) -> Iterator[Finding]:
    asked = pipeline.start(workspace)
    # While DVC runs: these import torch and MLflow, which takes seconds.
    from darkroom.commands.doctor import registry, store, working_tree

    yield from examined(settings.AREA, settings.check(workspace))
    yield from machine.check(workspace)
    files = list(examined(working_tree.AREA, working_tree.check_search(config, workspace)))
    files += examined(working_tree.AREA, working_tree.check(config, workspace))
    yield from files
    yield from examined(store.AREA, store.check(config, workspace))
    yield from examined(registry.AREA, registry.check(config, workspace))
    wrong_files = [each.line for each in files if each.is_wrong]
    yield from examined(pipeline.AREA, pipeline.check(asked, wrong_files))
