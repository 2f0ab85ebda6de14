"""The cross-validated accuracy beside a small test split."""

from pathlib import Path

import pytest

from darkroom.errors import CacheError
from darkroom.evaluation.cross_validated import beside
from darkroom.utils.files import write_json

AUDIT = {
    "fingerprint": "f", "images": 397, "folds": 5, "accuracy": 0.94, "accuracy_low": 0.91, "accuracy_high": 0.96,
    "suspected_labels": 3,
}  # fmt: skip


def test_a_small_test_split_has_the_cross_validated_accuracy_beside_it(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics.json", AUDIT)
    assert beside(199, tmp_path, "f") == (
        "the test split is small; cross-validated accuracy 0.9400 (95 % interval 0.9100 to 0.9600) over all 397 images "
        "in 5 folds"
    )


def test_a_large_one_has_none(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics.json", AUDIT)
    assert beside(200, tmp_path, "f") == ""


@pytest.mark.parametrize("fingerprint", [None, "of other data"])
def test_without_an_audit_of_these_data_it_says_how_to_get_one(tmp_path: Path, fingerprint: str | None) -> None:
    if fingerprint:
        write_json(tmp_path / "metrics.json", AUDIT | {"fingerprint": fingerprint})
    assert beside(20, tmp_path, "f") == (
        "the test split is small; `darkroom audit` measures the accuracy over all images"
    )


@pytest.mark.parametrize("content", ["", "[]", '{"fingerprint": "f"}', '{"fingerprint": "f", "accuracy": 2}'])
def test_a_damaged_audit_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(CacheError, match="darkroom audit"):
        beside(20, tmp_path, "f")
