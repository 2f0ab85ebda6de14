"""The files and the tables that `darkroom predict` writes."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from darkroom.errors import DataError
from darkroom.prediction.bulk import BatchPredictions
from darkroom.prediction.outputs import check_output, open_output
from darkroom.prediction.shards import Picture
from darkroom.prediction.summary import SHOWN, Summary

CLASSES = ("cat", "a dog, wet", "x")
NAN = [np.nan] * 3
CAT = [0.7, 0.2, 0.1]
DOG = [0.1, 0.9, 0]


def answers(files, probabilities, errors=None, unlike=False, sets=None):
    count = len(files)
    no = np.zeros(count, bool)
    pictures = [Picture(file, file) for file in files]
    return BatchPredictions(pictures, np.array(probabilities), no, no | unlike, no, errors or [None] * count, sets)


WRITTEN = answers(["cat/1.png", "cat/2.png", "é.png"], [[0.7, 0.2, 0.1], NAN, [0, 0.5, 0.5]], [None, "is broken", None])


def rows(path):
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as opened:
            return list(csv.DictReader(opened))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    from pyarrow.parquet import read_table

    return read_table(path).to_pylist()


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_every_form_says_the_same(tmp_path, form):
    path = tmp_path / "new" / f"answers.{form}"
    with open_output(path, CLASSES, "7") as write:
        write(WRITTEN)
        write(answers(["last.png"], [[0.25, 0.25, 0.5]], unlike=True))
    found = rows(path)
    assert [row["file"] for row in found] == ["cat/1.png", "cat/2.png", "é.png", "last.png"]
    assert [row.get("label") or None for row in found] == ["cat", None, "a dog, wet", "x"]
    assert [float(row["probability"]) for row in found if row.get("label")] == [0.7, 0.5, 0.5]
    assert [row.get("error") or None for row in found] == [None, "is broken", None, None]
    assert [row["version"] for row in found] == ["7"] * 4
    assert bool(int(found[3]["unlike_training"]))
    first = found[0]
    each = first["probabilities"] if form == "jsonl" else {name: first[f"p_{name}"] for name in CLASSES}
    assert {name: float(value) for name, value in each.items()} == {"cat": 0.7, "a dog, wet": 0.2, "x": 0.1}


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_a_name_that_is_not_utf8_is_written_with_its_bytes(tmp_path, form):
    path = tmp_path / f"answers.{form}"
    with open_output(path, CLASSES, "7") as write:
        write(answers(["caf\udce9.png", "b\udcff.png"], [CAT, NAN], [None, "b\udcff.png is broken"]))
    assert [row["file"] for row in rows(path)] == ["caf\\xe9.png", "b\\xff.png"]
    assert rows(path)[1]["error"] == "b\\xff.png is broken"


def test_parquet_holds_groups_of_many_rows(tmp_path, monkeypatch):
    from pyarrow.parquet import ParquetFile

    monkeypatch.setattr("darkroom.prediction.outputs.ROW_GROUP", 4)
    with open_output(tmp_path / "answers.parquet", CLASSES, "1") as write:
        for _ in range(5):
            write(answers(["a", "b"], [[1, 0, 0], [0, 1, 0]]))
    metadata = ParquetFile(tmp_path / "answers.parquet").metadata
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [4, 4, 2]


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_every_form_has_the_prediction_sets_in_the_order_of_the_probabilities(tmp_path, form):
    path = tmp_path / f"answers.{form}"
    some = answers(
        ["1.png", "2.png", "3.png", "4.png"],
        [[0.7, 0.2, 0.1], NAN, [0, 0.4, 0.6], [0.4, 0.3, 0.3]],
        [None, "is broken", None, None],
        sets=np.array([[1, 0, 0], [0, 0, 0], [0, 1, 1], [0, 0, 0]], bool),
    )
    with open_output(path, CLASSES, "7") as write:
        write(some)
        write(answers(["5.png"], [[0.7, 0.2, 0.1]]))  # of a version without sets
    found = [row.get("prediction_set") for row in rows(path)]
    if form == "csv":
        found = [json.loads(text) if text else None for text in found]
    assert found == [["cat"], None, ["x", "a dog, wet"], [], None]


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_a_file_is_written_as_a_whole_or_not_at_all(tmp_path, form):
    path = tmp_path / f"answers.{form}"
    path.write_text("before")

    def fail():
        with open_output(path, CLASSES, "1") as write:
            write(WRITTEN)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("answers.cvs", r"--output answers\.cvs: no known form '\.cvs'; did you mean '\.csv'"),
        ("answers.xlsx", r"no known form '\.xlsx'; choose from: \.csv, \.parquet, \.jsonl"),
        ("answers", r"no known form ''; choose from: \.csv, \.parquet, \.jsonl"),
    ],
)
def test_another_form_is_refused(name, pattern):
    with pytest.raises(DataError, match=pattern):
        check_output(Path(name))


def test_a_directory_is_no_output(tmp_path):
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(DataError, match="is a directory; expected a file"):
        check_output(tmp_path / "x.csv")


# --- what is printed -----------------------------------------------------------------------------------


def printed(summary, *, one_by_one=True, width=80):
    console = Console(file=io.StringIO(), width=width, soft_wrap=True, markup=False, highlight=False)
    summary.show(console, one_by_one=one_by_one)
    return console.file.getvalue()


def summary_of(*batches):
    summary = Summary(CLASSES)
    for batch in batches:
        summary.add(batch)
    return summary


def test_few_answers_are_listed_by_what_their_names_do_not_share():
    text = printed(summary_of(answers(["/a/long/way/1.png", "/a/long/way/x/2.png"], [[0.7, 0.2, 0.1], [0, 0.5, 0.5]])))
    assert "/a/long/way" not in text
    assert " 1.png " in text
    assert " x/2.png " in text
    assert "a dog, wet 20.0%, x 10.0%" in text


def test_no_character_of_a_long_name_is_lost():
    files = ["d/" + "long" * 30 + end for end in ("1.png", "2.png")]
    text = printed(summary_of(answers(files, [[0.7, 0.2, 0.1]] * 2)), width=70)
    assert "1.png" in text
    assert "2.png" in text


def test_many_answers_are_counted():
    count = SHOWN + 1
    text = printed(summary_of(*[answers([f"{row}.png"], [[0.7, 0.2, 0.1]]) for row in range(count)]))
    assert "1.png" not in text
    assert "cat" in text
    assert "21" in text
    assert "100.0%" in text
    assert "accuracy" not in text


def test_with_a_file_for_them_a_few_are_counted_too():
    assert "1.png" not in printed(summary_of(answers(["1.png"], [[0.7, 0.2, 0.1]])), one_by_one=False)


def test_sets_are_listed_and_counted_where_there_are_any():
    sets = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0]], bool)
    summary = summary_of(
        answers(
            ["1.png", "2.png", "3.png", "4.png"], [CAT, [0, 0.4, 0.6], CAT, NAN], [*[None] * 3, "is broken"], sets=sets
        )
    )
    lines = printed(summary, width=120).splitlines()
    assert [line.split("│")[5].strip() for line in lines if ".png" in line] == ["cat", "x, a dog, wet", "none"]
    assert "prediction sets: 1 with one label, 1 with several, 1 without any" in lines
    assert "prediction set" not in printed(summary_of(answers(["1.png"], [CAT])))


def test_of_a_large_set_the_number_is_told():
    classes = [str(number) for number in range(30)]
    summary = Summary(classes)
    flat = np.full((1, 30), 1 / 30)
    summary.add(answers(["1.png"], flat, sets=flat > 0))
    assert "0, 1, 2, 3 and 26 more" in printed(summary, width=120)


@pytest.mark.parametrize(
    ("files", "correct"),
    [
        (["cat/1.png", "a dog, wet/1.png"], 2),
        (["a dog, wet/1.png", "cat/1.png"], 0),
        (["test/cat/1.png", "train/cat/1.png"], 1),  # below splits
        (["photos/all/cat/1.png", "photos/all/x/1.png"], 1),  # below wrappers
        (["cat/indoors/1.png", "a dog, wet/outdoors/2.png"], 2),  # folders within a class
        (["x/cat/1.png", "x/a dog, wet/2.png"], 2),  # the deeper of two that would do
        (["cat/1.png", "2.png"], None),
        (["cat/1.png", "test/cat/2.png"], None),
        (["cat/1.png", "cow/2.png"], None),
        (["cat.png", "x.png"], None),
    ],
)
def test_folders_named_as_the_classes_tell_how_many_are_right(files, correct):
    assert summary_of(answers(files, [CAT, DOG])).correct == correct


def test_the_accuracy_has_its_interval_and_leaves_out_what_was_not_read():
    summary = summary_of(answers(["cat/1.png", "cat/2.png", "x.png"], [CAT, DOG, NAN], [None, None, "is broken"]))
    assert "1 of 2 are the class that their folder is named as: accuracy 0.5000 (95 % interval 0.0945 to 0.9055)" in (
        printed(summary)
    )
    assert summary.errors == ["x.png: is broken"]


def test_a_class_is_known_in_either_spelling_of_its_letters():
    summary = Summary(("caf\u00e9", "bar"))
    summary.add(
        BatchPredictions([Picture("", "cafe\u0301/1.png")], np.array([[1.0, 0]]), *np.zeros((3, 1), bool), [None])
    )
    assert summary.correct == 1
