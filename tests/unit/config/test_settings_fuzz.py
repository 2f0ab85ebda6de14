"""Settings files that were damaged at random: each is read, or refused in a few printable lines, and soon."""

import random
from pathlib import Path

import pytest
from tests import defaults

from darkroom.config import MAX_LINES, load
from darkroom.errors import ConfigError

# Of one line: a path, a key, what is expected (the sections of a file, at most), and a value cut at 200 characters.
LONGEST = 1500
PIECES = (
    *"[]{}:?|>'\"-#@`~", "- ", ": ", "\n", "\t", "&a ", "*a", "<<: *a", "!!int ", "!!python/x ", "!!binary ", "!!set ",
    "!!timestamp ", "%YAML 1.1\n", "---\n", "...\n", "0x", "1e400", ".inf", ".nan", "9" * 60, "null", "true", "\0",
    "\x1b[2J", "\u202e", "é", "2001-99-99", "1:2:3", "'a\"b'", "[" * 30, "a" * 300, "1000000000", "' '", "-1", "1.5",
)  # fmt: skip


def mutated(text: str, chance: random.Random) -> str:
    """``text`` with a few pieces cut, put in, exchanged or repeated, or a value exchanged for a piece."""
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        start = chance.randrange(len(text))
        end = start + chance.choice([1, 3, 20, 200])
        piece = chance.choice(PIECES)
        match chance.randrange(5):
            case 0:
                text = text[:start] + text[end:] + " "
            case 1:
                text = text[:start] + piece + text[start:]
            case 2:
                text = text[:start] + piece + text[end:]
            case 3:
                text = text[:end] + text[start:end] * 20 + text[end:]
            case _:
                lines = text.split("\n")
                row = chance.randrange(len(lines))
                lines[row] = f"{lines[row].partition(':')[0]}: {piece}"
                text = "\n".join(lines)
    return text


# The limit is what a machine that others work on needs a hundred times over.
@pytest.mark.timeout(600)
def test_a_damaged_settings_file_is_read_or_refused_in_printable_lines(tmp_path: Path, long: bool) -> None:
    chance, path = random.Random(18), tmp_path / "params.yaml"
    refused = 0
    for _ in range(10_000 if long else 40):
        path.write_text(mutated(defaults.params(), chance), encoding="utf-8")
        try:
            load(path)
        except ConfigError as problem:
            refused += 1
            lines = str(problem).split("\n")
            assert len(lines) <= MAX_LINES
            assert all(line.isprintable() and len(line) < LONGEST for line in lines)
    assert refused
