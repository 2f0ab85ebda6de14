"""What a refused command prints."""

import re

from darkroom.errors import DarkroomError


def refused(result, pattern):
    """Assert that the ``result`` of a command is exit code 2 and one line that matches ``pattern``."""
    code, output, errors = result
    assert code == DarkroomError.exit_code == 2
    assert output == ""
    lines = errors.splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    assert re.search(pattern, lines[0]), lines[0]
