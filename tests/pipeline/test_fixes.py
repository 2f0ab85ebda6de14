"""DVC runs preprocess again when the file of fixes changes, and knows the data of before when a line is removed."""

import csv

from darkroom.data.cache import DatasetCard
from darkroom.datasets.fixes import Fix, write_fixes


def test_a_fix_is_tracked_and_undone(make_clone, tmp_path):
    clone = make_clone(tmp_path)
    processed, fixes = clone.root / "data" / "processed" / "digits", clone.root / "data" / "fixes.csv"

    def repro():
        said = clone.run("dvc", "repro", "preprocess").stdout
        return DatasetCard.read(processed).fingerprint, said

    first, _ = repro()
    with (processed / "files.csv").open(newline="") as opened:
        image = next(csv.DictReader(opened))
    before = fixes.read_bytes()
    write_fixes(fixes, [Fix(image["digest"], "", image["class"], "drop", "", "Ann", "2026-11-29T12:00:00Z")])
    assert clone.run("git", "status", "--porcelain", "data").stdout.split() == ["M", "data/fixes.csv"]
    second, said = repro()
    assert "Running stage 'preprocess'" in said
    assert second != first
    fixes.write_bytes(before)
    third, said = repro()
    assert "Stage 'preprocess' is cached" in said
    assert third == first
