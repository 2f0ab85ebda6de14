"""`make params`: regenerate params.yaml, with the values that are set in it, and params.schema.json.

A key that params.yaml lacks is added with its default; order and comments become those of the settings' definitions.
"""

import sys

from darkroom.commands.params.schema import schema
from darkroom.commands.params.template import render
from darkroom.config import load
from darkroom.config.bounded_yaml import read_yaml
from darkroom.errors import DarkroomError
from darkroom.utils.console import error
from darkroom.utils.files import atomic_file, write_json
from darkroom.workspace import Workspace


def main() -> None:
    workspace = Workspace()
    try:
        load(workspace.params)
        text = render(read_yaml(workspace.params) or {})
    except DarkroomError as problem:
        error(problem.lines)
        sys.exit(problem.exit_code)
    with atomic_file(workspace.params) as partial:
        partial.write_text(text, encoding="utf-8")
    write_json(workspace.params.with_name("params.schema.json"), schema())


if __name__ == "__main__":
    main()
