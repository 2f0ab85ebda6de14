"""`darkroom preprocess` with a file of fixes: the data changes by them, and by nothing else."""

import csv
import json

import pytest
from PIL import Image
from tests.unit.refusals import refused

from darkroom.data.cache import DatasetCard
from darkroom.datasets.fixes import Fix, read_fixes, write_fixes

HEADER = "digest,file,given,decision,new,who,when\n"


@pytest.fixture
def folder(project, darkroom):
    """A project with 40 images of two classes, downloaded and preprocessed."""
    root = project(dataset__name="folder")
    for number in range(40):
        path = root / "data" / "folder" / ("cat", "dog")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        picture = Image.new("L", (8, 8), 6 * number)
        picture.putpixel((0, 0), 255 - 6 * number)
        picture.save(path)
    for stage in ("download", "preprocess"):
        assert darkroom(stage)[0] == 0
    return root


def listed(root, name="folder"):
    """The images of the cache by their files, or by split and row."""
    with (root / "data" / "processed" / name / "files.csv").open(newline="") as opened:
        return {row["file"] or f"{row['split']} {row['row']}": row for row in csv.DictReader(opened)}


def fingerprint(root, name="folder"):
    return DatasetCard.read(root / "data" / "processed" / name).fingerprint


def fix(image, decision, new=""):
    return Fix(image["digest"], image["file"], image["class"], decision, new, "Ann", "2026-11-29T12:00:00Z")


def told(root):
    return json.loads((root / "reports" / "preprocess" / "report.json").read_text())["fixes"]


def test_fixes_are_applied_said_and_undone(folder, darkroom):
    before, first = listed(folder), fingerprint(folder)
    train = [name for name, row in before.items() if row["split"] == "train"]
    dropped, relabeled, moved, kept = train[:4]
    fixes = folder / "data" / "fixes.csv"
    other = {"cat": "dog", "dog": "cat"}[before[relabeled]["class"]]
    write_fixes(
        fixes,
        [
            fix(before[dropped], "drop"), fix(before[relabeled], "relabel", other), fix(before[moved], "move", "test"),
            fix(before[kept], "keep"),
        ],
    )  # fmt: skip
    code, _, errors = darkroom("preprocess")

    assert code == 0
    assert "folder: data/fixes.csv: 1 image kept, 1 dropped, 1 relabeled, 1 moved" in errors.splitlines()
    after = listed(folder)
    assert set(before) - set(after) == {dropped}
    changed = {name for name in after if any(after[name][key] != before[name][key] for key in ("class", "split"))}
    assert changed == {relabeled, moved}
    assert after[relabeled]["class"] == other
    assert after[moved]["split"] == "test"
    assert fingerprint(folder) != first
    assert told(folder) == {"keep": 1, "drop": 1, "relabel": 1, "move": 1}
    assert read_fixes(folder / "reports" / "preprocess" / "fixes.csv") == read_fixes(fixes)

    fixes.write_text(HEADER)
    code, _, errors = darkroom("preprocess")
    assert code == 0
    assert "fixes" not in errors
    assert listed(folder) == before
    assert fingerprint(folder) == first
    assert not (folder / "reports" / "preprocess" / "fixes.csv").exists()


@pytest.mark.parametrize(("made", "changes"), [(("drop",), True), (("move", "val"), True), (("keep",), False)])
def test_the_fingerprint_changes_with_the_data_alone(folder, darkroom, made, changes):
    first = fingerprint(folder)
    image = next(row for row in listed(folder).values() if row["split"] == "train")
    write_fixes(folder / "data" / "fixes.csv", [fix(image, *made)])
    assert darkroom("preprocess")[0] == 0
    assert (fingerprint(folder) != first) == changes


def test_a_fix_follows_a_file_that_was_renamed(folder, darkroom):
    image = next(row for row in listed(folder).values() if row["split"] == "train")
    write_fixes(folder / "data" / "fixes.csv", [fix(image, "drop")])
    source = folder / "data" / "folder" / image["file"]
    source.rename(source.with_name("renamed.png"))
    for stage in ("download", "preprocess"):
        assert darkroom(stage)[0] == 0
    assert len(listed(folder)) == 39
    assert f"{image['class']}/renamed.png" not in listed(folder)


def test_a_fix_for_a_picture_that_was_changed_is_refused_and_nothing_is_written(folder, darkroom):
    image = next(row for row in listed(folder).values() if row["split"] == "train")
    write_fixes(folder / "data" / "fixes.csv", [fix(image, "drop")])
    Image.new("L", (8, 8), 3).save(folder / "data" / "folder" / image["file"])
    assert darkroom("download")[0] == 0
    parts = [folder / "data" / "processed" / "folder", folder / "reports"]
    before = {path: path.read_bytes() for part in parts for path in part.rglob("*") if path.is_file()}

    refused(darkroom("preprocess"), rf"data/fixes\.csv: line 2: no image has the content that {image['file']} had")
    assert {path: path.read_bytes() for part in parts for path in part.rglob("*") if path.is_file()} == before


def test_a_wrong_column_is_refused_before_the_images_are_read(folder, darkroom):
    (folder / "data" / "fixes.csv").write_text("digest,file,label,decision,new,who,when\n")
    (folder / "data" / "raw" / "folder" / "images.zip").unlink()
    refused(
        darkroom("preprocess"), r"data/fixes\.csv: line 1: the columns are .* without given; expected digest,file,given"
    )


def test_images_of_a_published_dataset_are_fixed_and_the_others_stay_in_their_splits(project, darkroom):
    root = project(dataset__name="digits")
    for stage in ("download", "preprocess"):
        assert darkroom(stage)[0] == 0
    before = list(listed(root, "digits").values())
    dropped, relabeled = before[3], next(row for row in before if row["split"] == "test" and row["class"] != "7")
    write_fixes(root / "data" / "fixes.csv", [fix(dropped, "drop"), fix(relabeled, "relabel", "7")])
    assert darkroom("preprocess")[0] == 0

    def images(rows):
        return sorted((row["digest"], row["split"], row["class"]) for row in rows)

    expected = [row | ({"class": "7"} if row is relabeled else {}) for row in before if row is not dropped]
    assert images(listed(root, "digits").values()) == images(expected)


def test_data_diff_names_what_a_fix_has_changed(registered, evaluated, darkroom):
    from tests.stages import run_stages

    run_stages(evaluated, "download")
    rows = [row for row in listed(evaluated, "digits").values() if row["split"] == "test"]
    write_fixes(evaluated / "data" / "fixes.csv", [fix(rows[0], "drop"), fix(rows[1], "move", "val")])
    run_stages(evaluated, "preprocess")
    code, output, _ = darkroom("data-diff", "champion", "here")

    assert code == 0
    assert "0 added, 1 removed, 0 relabeled, 1 moved between splits" in output.splitlines()[0]
    assert f"{len(rows) - 2:,} images are in both test splits with the same class" in output
