"""`darkroom trials`: the latest search as a table, CSV or JSON, even while it runs."""

import json
import sys

import typer

from darkroom.config import Config
from darkroom.errors import SearchError
from darkroom.search import table
from darkroom.search.readonly import latest_study
from darkroom.utils.console import output
from darkroom.utils.files import read_json
from darkroom.workspace import Workspace


def run(config: Config, workspace: Workspace, *, as_json: bool, as_csv: bool) -> None:
    """Print the trials of the latest study. Raises SearchError if there is none, or its storage cannot be read."""
    study = latest_study(config, workspace.study_journal)
    if as_json:
        typer.echo(json.dumps(table.as_json(study), ensure_ascii=False, indent=2))
    elif as_csv:
        table.write_csv(study, sys.stdout)
    else:
        table.show(study, output)
        _show_chosen(workspace, study.study_name)


def _show_chosen(workspace: Workspace, study: str) -> None:
    """Which trial the repeats chose, if they are over: it need not be the one with the best single value."""
    if workspace.best_params.exists():
        found = read_json(workspace.best_params, error=SearchError, made_by="darkroom search")
        if found.get("study") == study and found["evidence"]["candidates"]:
            output.print(found["evidence"]["verdict"], soft_wrap=True)
