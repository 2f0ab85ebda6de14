"""`darkroom audit --effect`: training with and without the fixes, compared on test images that no fix changes."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from tests.conftest import Darkroom
from tests.unit.audit.test_command import AUDIT

from darkroom.data.cache import DatasetCard
from darkroom.datasets.fixes import Fix, write_fixes
from darkroom.utils.csv_files import read_csv


@pytest.fixture
def digits(project: Callable[..., Path], evaluated_once: Path) -> Path:
    """A project with raw and preprocessed digits."""
    root = project(**AUDIT)
    for name in ("data/raw", "data/processed"):
        shutil.copytree(evaluated_once / name, root / name)
    return root


def listed(root: Path, split: str) -> Iterator[dict[str, str]]:
    return (row for row in read_csv(root / "data/processed/digits/files.csv") if row["split"] == split)


def relabeled(row: dict[str, str], classes: tuple[str, ...]) -> Fix:
    """The label of an image as the next class, which is wrong."""
    following = classes[(classes.index(row["class"]) + 1) % len(classes)]
    return Fix(row["digest"], "", row["class"], "relabel", following, "test", "2026-01-01")


def decide(root: Path, split: str, decision: Literal["keep", "drop"]) -> None:
    """A decision about the first image of a split alone."""
    row = next(listed(root, split))
    write_fixes(root / "data" / "fixes.csv", [Fix(row["digest"], "", row["class"], decision, "", "test", "2026-01-01")])


def test_fixes_that_spoil_labels_do_harm(digits: Path, darkroom: Darkroom) -> None:
    classes = DatasetCard.read(digits / "data/processed/digits").classes
    train, test = (list(listed(digits, split)) for split in ("train", "test"))
    wrong = [relabeled(row, classes) for row in train[: len(train) * 6 // 10]]
    dropped = Fix(test[0]["digest"], "", test[0]["class"], "drop", "", "test", "2026-01-01")
    write_fixes(digits / "data" / "fixes.csv", [*wrong, dropped])
    code, out, err = darkroom("audit", "--effect")
    assert code == 0, err
    assert "the fixes do harm" in out
    found = json.loads((digits / "reports" / "audit-effect" / "effect.json").read_text())
    assert (found["images"], found["left_out"]) == (len(test) - 1, 0)
    assert found["accuracy"]["b"]["value"] < found["accuracy"]["a"]["value"]
    assert found["difference_interval"]["high"] < 0
    # Nothing is left of the trainings.
    assert not list((digits / "models").rglob("*.npz"))


def test_a_fix_of_a_single_image_shows_no_difference(digits: Path, darkroom: Darkroom) -> None:
    decide(digits, "train", "drop")
    code, out, _ = darkroom("audit", "--effect")
    assert code == 0
    assert "no difference is shown" in out


def test_without_fixes_that_change_anything_it_is_refused(digits: Path, darkroom: Darkroom) -> None:
    code, _, err = darkroom("audit", "--effect")
    assert code == 2
    assert "no fix that drops, relabels or moves an image" in err
    decide(digits, "train", "keep")
    code, _, err = darkroom("audit", "--effect")
    assert code == 2
    assert "no fix that drops, relabels or moves an image" in err
    assert not (digits / "reports" / "audit-effect").exists()


def test_fixes_of_test_images_alone_are_refused(digits: Path, darkroom: Darkroom) -> None:
    decide(digits, "test", "drop")
    code, _, err = darkroom("audit", "--effect")
    assert code == 2
    assert "change only test images" in err
