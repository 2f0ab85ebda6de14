"""Read and write the files that stages pass to each other, atomically."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from darkroom.errors import DarkroomError
from darkroom.utils.scratch import scratch_directory, scratch_file

T = TypeVar("T")
# For dataclasses that are read by ``checked``: nothing that they do not name, and finite numbers.
EXACT = ConfigDict(extra="forbid", allow_inf_nan=False)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path``; it takes ``path``'s place only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_file(path.parent) as partial:
        yield partial
        # What stages hand over should be as readable as any other file.
        partial.chmod(0o644)
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(path)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield an empty temporary directory; it replaces ``path`` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_directory(path.parent) as partial:
        yield partial
        partial.chmod(0o755)
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with a final newline, atomically.

    Raises ValueError for NaN and infinities, which JSON does not have.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path, *, error: type[DarkroomError], made_by: str) -> dict[str, Any]:
    """Read a JSON object that the command ``made_by`` has written.

    Raises ``error`` if the file is missing or damaged, naming the command that writes it again.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise error(f"{path}: not found; run `{made_by}` first") from None
    except IsADirectoryError:
        raise error(f"{path}: a directory; remove it and run `{made_by}` again") from None
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise error(f"{path}: cannot be read ({reason}); run `{made_by}` again") from None
    except (ValueError, RecursionError) as problem:  # no UTF-8, no JSON, thousands of digits or of brackets
        raise error(f"{path}: damaged ({problem}); run `{made_by}` again") from None
    if not isinstance(value, dict):
        raise error(f"{path}: expected a JSON object; run `{made_by}` again")
    return value


def need_output(path: Path, *, error: type[DarkroomError], made_by: str) -> Path:
    """``path``, the file that the stage ``made_by`` writes. Raises ``error`` if it is missing, or a directory."""
    if path.is_dir():
        raise error(f"{path}: a directory; remove it and run `{made_by}` again")
    if not path.is_file():
        raise error(f"{path}: not found; `dvc pull {path}` brings it if it was pushed, `{made_by}` makes it")
    return path


def need_directory(path: Path, *, error: type[DarkroomError], made_by: str) -> None:
    """Check for the directory that the stage ``made_by`` writes. Raises ``error`` if it is missing, or a file."""
    if not path.is_dir():
        raise error(f"{path}: no such directory; `dvc pull {path}` brings it if it was pushed, `{made_by}` makes it")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def checked(
    kind: type[T], found: Mapping[str, Any], path: Path | str, *, error: type[DarkroomError], made_by: str
) -> T:
    """The content ``found`` in a file as a ``kind``, a type whose annotations define the valid values.

    Raises ``error``, with the command that writes the file again, if a value is missing or of another type.
    """
    try:
        return TypeAdapter(kind).validate_python(found)
    except ValidationError as problem:
        raise error(f"{path}: damaged ({first_problem(problem)}); run `{made_by}` again") from None


def first_problem(problem: ValidationError) -> str:
    """The first error of pydantic, as `key: what is wrong`."""
    first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg'].lower()}" if place else first["msg"]


def check_format(
    found: dict[str, Any], expected: int, path: Path | str, *, error: type[DarkroomError], made_by: str
) -> None:
    """Refuse a file written in another format version than this release reads."""
    version = found.get("format_version")
    if version != expected:
        raise error(f"{path}: format version {version}, this release reads version {expected}; run `{made_by}` again")


def read_as(kind: type[T], path: Path, version: int, *, error: type[DarkroomError], made_by: str) -> T:
    """The JSON object in ``path``, of this format ``version``, as a ``kind``. Raises ``error``."""
    found = read_json(path, error=error, made_by=made_by)
    check_format(found, version, path, error=error, made_by=made_by)
    return checked(kind, found, path, error=error, made_by=made_by)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, as 64 hexadecimal digits."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def digest(value: Any) -> str:
    """The SHA-256 of a JSON-serializable value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
