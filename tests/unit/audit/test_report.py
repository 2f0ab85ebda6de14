"""What `darkroom preprocess` found, as findings of the audit."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from darkroom.audit.findings import ImageRef
from darkroom.audit.report import (
    ImageTable,
    association_lines,
    changed_fixes_lines,
    guessing_lines,
    near_duplicate_findings,
    quality_findings,
    unsearched_lines,
)
from darkroom.data.cache import DatasetCard
from darkroom.datasets.fixes import Fix

CARD = DatasetCard("folder", ("cat", "dog"), (1, 2, 2), (0.5,), (0.3,), {"train": 3, "val": 1, "test": 2}, {}, "f")
TABLE = ImageTable(CARD, [f"{name}.png" for name in "abcdef"], list("012345"), np.array([0, 0, 1, 0, 1, 0]))


def image(split: str, row: int | None) -> dict[str, object]:
    return {"split": split, "row": row, "label": "cat", "image": "x"}


@pytest.mark.parametrize(
    ("position", "place"), [(0, ("train", 0)), (2, ("train", 2)), (3, ("val", 0)), (5, ("test", 1))]
)
def test_a_position_is_a_row_of_its_split_and_back(position: int, place: tuple[str, int]) -> None:
    assert TABLE.place(position) == ImageRef(*place)
    assert TABLE.position(ImageRef(*place)) == position


def test_fixes_that_were_changed_after_they_were_applied_are_told_of() -> None:
    path = Path("data/fixes.csv")
    drop = Fix("0" * 32, "a.png", "cat", "drop", "", "Ann", "")
    assert changed_fixes_lines(path, [drop], [replace(drop, who="Bob")]) == []
    assert changed_fixes_lines(path, [drop, replace(drop, decision="keep", digest="1" * 32)], [drop]) == []
    for now, then in (([], [drop]), ([drop], []), ([replace(drop, decision="relabel", new="dog")], [drop])):
        [line] = changed_fixes_lines(path, now, then)
        assert line.startswith("data/fixes.csv was changed after the images were preprocessed")


def test_models_that_may_only_guess_are_told_of() -> None:
    labels = np.array([0] * 60 + [1] * 40)
    [line] = guessing_lines({"accuracy": 0.65, "accuracy_low": 0.55}, labels, CARD.classes)
    assert "65.0% of the images are right, and always answering 'cat' would give 60.0%" in line
    assert guessing_lines({"accuracy": 0.8, "accuracy_low": 0.71}, labels, CARD.classes) == []


def test_classes_in_which_no_outliers_were_looked_for_are_counted_and_named() -> None:
    labels = np.repeat([0, 1], [40, 39])
    folds = np.arange(79) % 2
    [line] = unsearched_lines(labels, folds, CARD.classes)
    assert line.startswith("no outliers were looked for in 1 of 2 classes, which have fewer than 20 images in a fold: ")
    assert "'dog'; lower audit.folds" in line
    assert unsearched_lines(labels[:40], folds[:40], CARD.classes) == []
    [line] = unsearched_lines(np.arange(12), np.zeros(12, np.int64), list("abcdefghijkl"))
    assert "12 of 12 classes" in line
    assert ": 'a', 'b', 'c' and 9 more; lower" in line


def test_a_group_across_splits_is_a_leak_of_its_train_image(tmp_path: Path) -> None:
    path = tmp_path / "near_duplicates.json"
    path.write_text(json.dumps([[image("test", 1), image("train", 1)]]))
    (leak,) = near_duplicate_findings(TABLE, path)
    assert (leak.kind, leak.file, leak.neighbors) == ("leak", "b.png", (ImageRef("test", 1),))
    assert leak.reason == "shows the same picture as f.png (test)"


def test_where_labels_differ_each_is_to_be_decided_and_these_come_first(tmp_path: Path) -> None:
    path = tmp_path / "near_duplicates.json"
    alike, different = [image("test", 1), image("train", 1)], [image("train", row) for row in (0, 1, 2)]
    path.write_text(json.dumps([alike, different]))
    cat, dog, leak = near_duplicate_findings(TABLE, path)
    assert [(each.kind, each.file) for each in (cat, dog)] == [("near-duplicate", "a.png"), ("near-duplicate", "c.png")]
    # First beside it: an image of another label.
    assert cat.reason == "shows the same picture as c.png (train) and 1 more; their labels differ: cat, dog"
    assert dog.reason == "shows the same picture as a.png (train) and 1 more; their labels differ: cat, dog"
    assert cat.neighbors == (ImageRef("train", 2), ImageRef("train", 1))
    assert leak.kind == "leak"
    assert leak.score < cat.score == dog.score


def test_of_a_group_whose_others_were_dropped_nothing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "near_duplicates.json"
    path.write_text(json.dumps([[image("train", None), image("test", 0)]]))
    assert near_duplicate_findings(TABLE, path) == []


def test_without_files_of_preprocess_nothing_is_found(tmp_path: Path) -> None:
    assert near_duplicate_findings(TABLE, tmp_path / "near_duplicates.json") == []
    assert quality_findings(TABLE, tmp_path / "quality.json") == ([], [])


def test_a_flaw_keeps_its_reason_and_gets_the_digest_of_its_image(tmp_path: Path) -> None:
    path = tmp_path / "quality.json"
    flaw = {
        "split": "test",
        "row": 0,
        "kind": "dark",
        "label": "dog",
        "file": "e.png",
        "score": 0.9,
        "reason": "so dark",
    }
    path.write_text(json.dumps({"findings": [flaw], "associations": []}))
    [found], _ = quality_findings(TABLE, path)
    assert (found.kind, found.file, found.digest, found.label) == ("dark", "e.png", "4", "dog")
    assert (found.reason, found.score) == ("so dark", 0.9)


def test_only_strong_associations_with_the_files_are_lines() -> None:
    strong = {
        "attribute": "file type", "of": "file", "label": "cat", "told": 1.0, "effect_size": "Cramer's V",
        "effect": 0.99, "strong": True,
    }  # fmt: skip
    [line] = association_lines([strong, strong | {"strong": False}, strong | {"of": "picture"}])
    assert line.startswith("cat can be told from the file type of the files alone (100% right, 50% by chance;")
