"""`darkroom trials`: the latest search as a table, CSV or JSON, also while it runs."""

import json
import sys

import typer

from darkroom.config import Config
from darkroom.search import table
from darkroom.search.readonly import latest_study
from darkroom.utils.console import output
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
