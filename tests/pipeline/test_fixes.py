"""DVC runs preprocess again when the file of fixes changes, and knows the data of before when a line is removed."""

import csv

from tests.pipeline.walk import Walk

from darkroom.data.cache import DatasetCard
from darkroom.datasets.fixes import Fix, write_fixes


def test_a_fix_is_tracked_and_undone(make_clone, tmp_path):
    walk = Walk(make_clone(tmp_path), seed=0)
    processed, fixes = walk.root / "data" / "processed" / "digits", walk.root / "data" / "fixes.csv"

    def repro():
        """The fingerprint of the data, and whether the stage has run for it."""
        walk.said.clear()
        assert walk.dvc("repro", "preprocess")[0] == 0
        has_run = any(line.startswith("  darkroom preprocess: 0") for line in walk.said)
        return DatasetCard.read(processed).fingerprint, has_run

    first, has_run = repro()
    assert has_run
    with (processed / "files.csv").open(newline="") as opened:
        image = next(csv.DictReader(opened))
    before = fixes.read_bytes()
    write_fixes(fixes, [Fix(image["digest"], "", image["class"], "drop", "", "Ann", "2026-11-29T12:00:00Z")])
    assert walk.git("status", "--porcelain", "data").split() == ["M", "data/fixes.csv"]
    second, has_run = repro()
    assert has_run
    assert second != first
    fixes.write_bytes(before)
    assert repro() == (first, False)
