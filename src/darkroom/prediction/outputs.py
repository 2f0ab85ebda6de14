"""Write predictions to a file: CSV, Parquet or JSON lines, a line for each picture, batch by batch."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.datasets.names import as_text
from darkroom.errors import DataError, did_you_mean
from darkroom.evaluation.prediction_sets import ordered_labels
from darkroom.prediction.bulk import BatchPredictions, rank
from darkroom.utils.csv_files import SpreadsheetWriter, open_csv
from darkroom.utils.files import atomic_file

Write = Callable[[BatchPredictions], None]
OutputColumns = dict[str, list[Any]]

# Pictures whose columns Parquet holds together, so many that reading a part of the file pays.
ROW_GROUP = 16_384


def check_output(path: Path) -> None:
    """Raise DataError if answers cannot be written to this file."""
    if path.suffix.lower() not in FORMS:
        choices = ", ".join(FORMS)
        hint = did_you_mean(path.suffix.lower(), FORMS) if path.suffix else f"choose from: {choices}"
        raise DataError(f"--output {path}: no known form {path.suffix!r}; {hint}")
    if path.is_dir():
        raise DataError(f"--output {path}: is a directory; expected a file")


@contextmanager
def open_output(path: Path, classes: Sequence[str], version: str) -> Iterator[Write]:
    """Open a writer of predictions in the format of ``path``'s suffix; the file appears only if the block succeeds."""
    with atomic_file(path) as partial, FORMS[path.suffix.lower()](partial, classes, version) as write:
        yield write


def _columns(answers: BatchPredictions, classes: Sequence[str], version: str) -> OutputColumns:
    """The predictions by column, None for a picture that could not be read."""
    is_read = [error is None for error in answers.errors]
    labels = np.nan_to_num(answers.probabilities).argmax(1)
    chosen = answers.probabilities[np.arange(len(labels)), labels]

    def known(values: list[Any]) -> list[Any]:
        return [value if here else None for value, here in zip(values, is_read, strict=True)]

    return {
        "file": [as_text(picture.file) for picture in answers.pictures],
        "label": known([classes[label] for label in labels]),
        "probability": known(chosen.tolist()),
        **{f"p_{name}": known(answers.probabilities[:, row].tolist()) for row, name in enumerate(classes)},
        "unlike_training": known(answers.unlike_training.tolist()),
        "prediction_set": known(_sets(answers, classes)),
        "inverted": known(answers.inverted.tolist()),
        "version": [version] * len(labels),
        "error": [error and as_text(error) for error in answers.errors],
    }


def _sets(answers: BatchPredictions, classes: Sequence[str]) -> list[list[str] | None]:
    """The labels in each prediction set, None without any."""
    if answers.members is None:
        return [None] * len(answers.pictures)
    return [ordered_labels(*each, classes) for each in zip(answers.members, answers.probabilities, strict=True)]


@contextmanager
def _csv(path: Path, classes: Sequence[str], version: str) -> Iterator[Write]:
    with open_csv(path) as opened:
        table = SpreadsheetWriter(opened)
        probabilities = ("probability", *(f"p_{name}" for name in classes))
        header = ("file", "label", *probabilities, "unlike_training", "prediction_set", "inverted", "version", "error")
        table.writerow(header)

        def write(answers: BatchPredictions) -> None:
            columns = _columns(answers, classes, version)
            for name in probabilities:
                columns[name] = [None if value is None else f"{value:.6g}" for value in columns[name]]
            for name in ("unlike_training", "inverted"):
                columns[name] = [None if value is None else int(value) for value in columns[name]]
            sets = columns["prediction_set"]
            columns["prediction_set"] = [
                None if labels is None else json.dumps(labels, ensure_ascii=False) for labels in sets
            ]
            table.writerows(zip(*columns.values(), strict=True))

        yield write


@contextmanager
def _json_lines(path: Path, classes: Sequence[str], version: str) -> Iterator[Write]:
    with path.open("w", encoding="utf-8") as opened:

        def write(answers: BatchPredictions) -> None:
            for answer in as_json(answers, classes):
                print(json.dumps(answer | {"version": version}, ensure_ascii=False), file=opened)

        yield write


def as_json(answers: BatchPredictions, classes: Sequence[str], file: str = "file") -> Iterator[dict[str, Any]]:
    """Each prediction as an object with all probabilities, the most probable first, or with an ``error``.

    The picture is named under the key ``file``.
    """
    sets = _sets(answers, classes)
    for row, (picture, error) in enumerate(zip(answers.pictures, answers.errors, strict=True)):
        if error is not None:
            yield {file: as_text(picture.file), "error": as_text(error)}
            continue
        probabilities = rank(classes, answers.probabilities[row])
        label, probability = next(iter(probabilities.items()))
        yield {
            file: as_text(picture.file),
            "label": label,
            "probability": probability,
            "unlike_training": bool(answers.unlike_training[row]),
            "prediction_set": sets[row],
            "inverted": bool(answers.inverted[row]),
            "probabilities": probabilities,
        }


@contextmanager
def _parquet(path: Path, classes: Sequence[str], version: str) -> Iterator[Write]:
    import pyarrow as pa  # which MLflow brings
    from pyarrow.parquet import ParquetWriter

    schema = pa.schema(
        [
            ("file", pa.string()),
            ("label", pa.string()),
            ("probability", pa.float64()),
            *((f"p_{name}", pa.float64()) for name in classes),
            ("unlike_training", pa.bool_()),
            ("prediction_set", pa.list_(pa.string())),
            ("inverted", pa.bool_()),
            ("version", pa.string()),
            ("error", pa.string()),
        ]
    )
    waiting: list[Any] = []
    with ParquetWriter(path, schema) as table:

        def flush() -> None:
            if waiting:
                table.write_table(pa.Table.from_batches(waiting))
                waiting.clear()

        def write(answers: BatchPredictions) -> None:
            waiting.append(pa.RecordBatch.from_pydict(_columns(answers, classes, version), schema=schema))
            if sum(batch.num_rows for batch in waiting) >= ROW_GROUP:
                flush()

        yield write
        flush()


FORMS: dict[str, Callable[[Path, Sequence[str], str], AbstractContextManager[Write]]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".jsonl": _json_lines,
}
