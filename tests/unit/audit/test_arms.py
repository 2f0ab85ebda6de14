"""Models with and without the fixes are compared on test images that neither of them knows by heart."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from tests.unit.datasets.test_near_duplicates import pictures

from darkroom.audit.arms import Arms, make_arms
from darkroom.config import Config
from darkroom.config.settings import Dataset, Preprocess
from darkroom.data.digests import as_hex, content_digest, stack
from darkroom.datasets.fixes import Decision, Fix
from darkroom.datasets.source import DecodedDataset
from darkroom.errors import DataError

COUNT = 240
SPLITS = np.repeat(["train", "val", "test"], COUNT // 3)
# Test images, and the train or val image whose picture each has: brighter, the same, brighter.
COPIES = {200: 3, 201: 4, 202: 90}
OnLeak = Literal["report", "drop-train"]


@pytest.fixture(scope="module")
def decoded() -> DecodedDataset:
    images = pictures(COUNT)
    for copy, original in COPIES.items():
        images[copy] = images[original] if copy == 201 else (images[original] * 1.2).clip(0, 255)
    labels = np.arange(COUNT) % 2
    digests = stack(content_digest(f"file {number}".encode()) for number in range(COUNT))
    return DecodedDataset(images, labels, SPLITS, ("cat", "dog"), digests=digests)


def fix(decoded: DecodedDataset, row: int, decision: Decision, new: str = "") -> Fix:
    assert decoded.digests is not None
    digest = list(as_hex(decoded.digests))[row]
    return Fix(digest, "", decoded.classes[decoded.labels[row]], decision, new, "test", "2026-01-01")


def arms(decoded: DecodedDataset, fixes: list[Fix], scratch: Path, on_leak: OnLeak = "report") -> Arms:
    config = Config(dataset=Dataset(name="folder", on_leak=on_leak), preprocess=Preprocess(audit="full"))
    return make_arms(fixes, decoded, config, scratch, lambda *_: None)


def test_test_images_whose_pictures_either_arm_learns_are_left_out(decoded: DecodedDataset, tmp_path: Path) -> None:
    # One fix drops a copy, another relabels one, and the last changes a test image itself.
    fixes = [fix(decoded, 3, "drop"), fix(decoded, 4, "relabel", "dog"), fix(decoded, 239, "drop")]
    found = arms(decoded, fixes, tmp_path)
    assert found.test.tolist() == [row for row in range(160, 239) if row not in COPIES]
    assert found.left_out == 3
    without, with_fixes = found.both
    assert without.rows.tolist() == list(range(160))
    assert with_fixes.rows.tolist() == [row for row in range(160) if row != 3]
    assert (without.labels[4], with_fixes.labels[3]) == (0, 1)


def test_train_images_that_the_project_drops_for_their_leak_are_learned_by_none(
    decoded: DecodedDataset, tmp_path: Path
) -> None:
    found = arms(decoded, [fix(decoded, 4, "relabel", "dog"), fix(decoded, 10, "drop")], tmp_path, "drop-train")
    without, with_fixes = found.both
    assert without.rows.tolist() == [row for row in range(160) if row not in (3, 4)]
    assert with_fixes.rows.tolist() == [row for row in range(160) if row not in (3, 4, 10)]
    # drop-train changes only train: the copy in val is still learned.
    assert found.test.tolist() == [row for row in range(160, 240) if row != 202]
    assert found.left_out == 1


def test_fixes_of_what_is_dropped_anyway_are_refused(decoded: DecodedDataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fixes\.csv: .* or train images that dataset\.on_leak drops"):
        arms(decoded, [fix(decoded, 4, "relabel", "dog")], tmp_path, "drop-train")


def test_without_a_test_image_that_is_unknown_it_is_refused(decoded: DecodedDataset, tmp_path: Path) -> None:
    fixes = [fix(decoded, row, "drop") for row in (0, *range(160, 240)) if row not in COPIES]
    with pytest.raises(DataError, match="no test image to compare on"):
        arms(decoded, fixes, tmp_path)
