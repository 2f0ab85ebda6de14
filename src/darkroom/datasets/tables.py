"""A table of labels: its location, the meaning of its columns, and their text."""

import csv
import shutil
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from darkroom.datasets.tars import HeaderError, is_tar, open_tar
from darkroom.errors import DataError, counted
from darkroom.utils.files import atomic_file

SUFFIXES = (".csv", ".parquet")
SEPARATORS = ",;\t|"
MAX_NAMED = 5

# Names of columns, without regard to case, spaces and underscores. Of several tiers the first that is there counts.
COLUMNS = {
    "file": (
        "file files filename filenames filepath filepaths path paths image images imagefile imagefilename imagename "
        "imagepath imgfile imgname imgpath img picture photo",
        "imageid imgid id",
    ),
    "label": ("label labels class classes classname category target diagnosis dx species y",),
    "split": ("split splits set subset partition",),
    "group": (
        "group groups groupid",
        "patient patientid subject subjectid person personid lesion lesionid case caseid study studyid camera cameraid "
        "session sessionid",
    ),
}
Columns = dict[str, Any]  # pyarrow's arrays of text


@dataclass(frozen=True)
class Table:
    """The content of a table: the text of each row's cells by role, and of the other columns by name.

    ``columns`` holds "file" and "label", and "split" and "group" if present; ``named`` are the names of these columns
    in the table; ``others`` are the remaining columns.
    """

    name: str
    columns: Columns
    named: dict[str, str]
    others: Columns = field(default_factory=dict)

    @property
    def reading(self) -> str:
        """The role of each column, in a line."""
        roles = {"file": "files", "label": "labels", "split": "splits", "group": "groups"}
        read = [f"{roles[role]} from column {name!r}" for role, name in self.named.items()]
        kept = f"; kept for each image: {', '.join(map(repr, self.others))}" if self.others else ""
        return f"{self.name}: {', '.join(read)}{kept}"

    def cell(self, role: str, row: int) -> str:
        return str(self.columns[role][row].as_py())

    def line(self, row: int) -> str:
        return f"line {row + 2}" if self.name.lower().endswith(".csv") else f"row {row + 1}"


def store_table(labels: str | None, source: Path, directory: Path) -> None:
    """Copy the table ``dataset.labels`` of the images in ``source`` to ``directory``, or remove one that is there.

    It lies in ``source``, a directory or an archive, where DVC sees that it has changed; ``labels`` is its path there
    or from the project's root. Raises DataError if it does not lie there, or cannot be read as a table of labels.
    """
    target = None
    if labels is not None:
        target = directory / PurePosixPath(labels).name
        if not is_table(target.name):
            raise DataError(f"dataset.labels: {labels}: expected a table, .csv or .parquet; save it as CSV UTF-8")
        with _open(labels, source) as content, atomic_file(target) as partial:
            with partial.open("wb") as written:
                shutil.copyfileobj(content, written)
            read_table(partial, target.name)
    for place in _tables_in(directory):
        if place != target:
            place.unlink()


def find_table(directory: Path) -> Path | None:
    """The table that ``store_table`` has left in a directory, if there is one."""
    return next(iter(_tables_in(directory)), None)


def _tables_in(directory: Path) -> list[Path]:
    return [place for place in directory.glob("*") if is_table(place.name)]


def is_table(name: str) -> bool:
    """Whether a file is a table, by its name."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


@contextmanager
def _open(labels: str, source: Path) -> Iterator[IO[bytes]]:
    """The table's bytes. Raises DataError if there is no such table inside ``source``."""
    if not source.exists():
        raise DataError(f"{source}: not found; set dataset.path to where the images and dataset.labels are")
    outside = Path(labels).expanduser()
    names: list[str] = []
    if source.is_dir():
        inside = source / outside
        places = [place for place in (inside, outside) if place.is_file() and _lies_in(place, source)]
        if places:
            with places[0].open("rb") as content:
                yield content
            return
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            if labels in (names := archive.namelist()):
                with archive.open(labels) as content:
                    yield content
                return
    elif source.is_file() and is_tar(source):
        with _named(source), open_tar(source) as packed:
            names = packed.getnames()
            own = [name for name in names if name.removeprefix("./") == labels]
            if own and (member := packed.extractfile(own[0])):
                yield member
                return
    if outside.is_file():
        raise DataError(
            f"dataset.labels: {labels} is outside dataset.path ({source}), where a change of it would go unnoticed; "
            "put it there, next to the images, or set dataset.path to a directory that holds both"
        )
    tables = list(filter(is_table, names))
    there = f"; it holds {', '.join(tables[:MAX_NAMED])}" if tables else ""
    raise DataError(f"dataset.labels: no {labels} in dataset.path ({source}){there}; give the table's path from there")


@contextmanager
def _named(source: Path) -> Iterator[None]:
    try:
        yield
    except HeaderError as problem:
        raise DataError(f"{source}: {problem}") from None


def _lies_in(place: Path, directory: Path) -> bool:
    # The place where it lies, be it a link to elsewhere: DVC follows it.
    return place.parent.resolve().is_relative_to(directory.resolve())


def read_table(path: Path, name: str) -> Table:
    """Read a table; the suffix of ``name`` gives its format, and messages use this name.

    Raises DataError if it cannot be read, a column of files or labels is missing or ambiguous, or a cell in it
    is empty.
    """
    import pyarrow as pa

    read = _read_csv if name.lower().endswith(".csv") else _read_parquet
    try:
        columns = read(path)
    except (pa.ArrowException, UnicodeDecodeError, csv.Error, StopIteration) as problem:
        reason = "it is empty" if isinstance(problem, StopIteration) else str(problem).splitlines()[0]
        hint = "; save it as CSV UTF-8" if "utf" in reason.lower() else ""
        raise DataError(f"{name}: not a table that can be read: {reason}{hint}") from None
    named = {role: column for role in COLUMNS if (column := _choose(role, list(columns), name))}
    others = {column: values for column, values in columns.items() if column.strip() and column not in named.values()}
    table = Table(name, {role: columns[column] for role, column in named.items()}, named, others)
    for role in ("file", "label", "group"):
        if role in named:
            _refuse_empty(table, role)
    for column, values in columns.items():
        _refuse_swallowed_rows(table, column, values, list(columns))
    return table


def _read_csv(path: Path) -> Columns:
    from pyarrow import csv as arrow_csv
    from pyarrow import string

    # Excel writes a mark before the text, and semicolons where the comma is the decimal sign.
    with path.open(encoding="utf-8-sig", newline="") as opened:
        first = next(opened)
    if first.lower().startswith("sep="):
        raise csv.Error(f"its first line is {first.strip()!r}, which only Excel reads; remove the line")
    separator = max(SEPARATORS, key=first.count)
    names = _distinct(next(csv.reader([first], delimiter=separator, strict=True)))
    if not names:
        raise csv.Error("its first line, which names the columns, is empty")
    read = arrow_csv.read_csv(
        path,
        read_options=arrow_csv.ReadOptions(column_names=names, skip_rows=1, use_threads=False),  # errors give the line
        parse_options=arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        # As they are written: 007 is a name, and NA may be a class.
        convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, string())),
    )
    return _as_text(read)


def _read_parquet(path: Path) -> Columns:
    from pyarrow import parquet, types

    schema = parquet.read_schema(path)
    # What is no text, number or date, such as the images themselves, is left out.
    plain = [each.name for each in schema if not (types.is_nested(each.type) or types.is_binary(each.type))]
    return _as_text(parquet.read_table(path, columns=_distinct(plain)))


def _distinct(names: Sequence[str]) -> list[str]:
    """The names of columns. Raises csv.Error if one is there twice, but for columns without a name."""
    for name in names:
        if name.strip() and names.count(name) > 1:
            raise csv.Error(f"two columns {name!r}")
    return [name if name.strip() else " " * (position + 1) for position, name in enumerate(names)]


def _as_text(read: Any) -> Columns:
    import pyarrow as pa
    from pyarrow import compute

    columns = {}
    for name in read.column_names:
        values = read[name].combine_chunks()
        if pa.types.is_floating(values.type):  # where a cell without a number may be one that is none
            values = compute.if_else(compute.is_nan(values), None, values)
        texts = compute.utf8_trim_whitespace(compute.fill_null(values.cast(pa.string()), ""))
        columns[name] = composed(texts)
    return columns


def composed(texts: Any) -> Any:
    """Texts in the form NFC, in which no accent is a character of its own, as on a Mac: one class is not two."""
    import pyarrow as pa
    from pyarrow import compute

    strange = compute.invert(compute.string_is_ascii(texts))
    if not compute.any(strange).as_py():
        return texts
    # pyarrow 25 gives the form NFD where it is asked for NFC.
    found = [unicodedata.normalize("NFC", text) for text in texts.filter(strange).to_pylist()]
    return compute.replace_with_mask(texts, strange, pa.array(found, pa.string()))


def _choose(role: str, names: Sequence[str], table: str) -> str | None:
    """The column of a role, None for an optional one that is missing. Raises DataError."""
    for tier in COLUMNS[role]:
        found = [name for name in names if _plain(name) in tier.split()]
        if len(found) > 1:
            raise DataError(
                f"{table}: {' and '.join(map(repr, found))} may each be the column of the {role}s; "
                f"rename the other{'s' if len(found) > 2 else ''} or take {'them' if len(found) > 2 else 'it'} away"
            )
        if found:
            return found[0]
    if role in ("split", "group"):
        return None
    known = ", ".join(name for tier in COLUMNS[role] for name in tier.split()[:3])
    raise DataError(
        f"{table}: no column of {role}s; found {', '.join(repr(name) for name in names if name.strip())} in the first "
        f"line; call it {role} (or {known}, …)"
    )


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _refuse_empty(table: Table, role: str) -> None:
    from pyarrow import compute

    empty = np.flatnonzero(compute.equal(table.columns[role], "").to_numpy(zero_copy_only=False))
    if len(empty):
        raise DataError(
            f"{table.name}: {counted(len(empty), 'row')} without a {role} in column {table.named[role]!r}, the first "
            f"in {table.line(int(empty[0]))}; fill in or remove {'it' if len(empty) == 1 else 'them'}"
        )
    if len(table.columns[role]) == 0:
        raise DataError(f"{table.name}: no rows; expected one for each image")


def _refuse_swallowed_rows(table: Table, column: str, values: Any, names: Sequence[str]) -> None:
    """Refuse a cell whose lines look like rows, as behind a quotation mark that is not closed where it should be."""
    from pyarrow import compute

    place = names.index(table.named["file"])
    for row in np.flatnonzero(compute.match_substring(values, "\n").to_numpy(zero_copy_only=False)).tolist():
        suffix = PurePosixPath(table.cell("file", row).partition("\n")[0]).suffix
        lines = values[row].as_py().splitlines()
        cells = (line.split(separator) for line in lines for separator in SEPARATORS)
        files = [row_cells[place].strip() for row_cells in cells if len(row_cells) == len(names)]
        if rows := sum(" " not in file and PurePosixPath(file).suffix == suffix for file in files if file):
            raise DataError(
                f"{table.name}: a cell in column {column!r} has {len(lines)} lines, of which {rows} look like rows of "
                f"the table, in {table.line(row)}, of {table.cell('file', row)}: a quotation mark is too many or "
                "missing"
            )
