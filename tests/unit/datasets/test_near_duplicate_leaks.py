"""What preprocess does about train images whose picture is in val or test too."""

import json

import numpy as np
import pytest
from PIL import Image
from tests.unit.datasets.test_near_duplicates import encode, pictures

from darkroom import config
from darkroom.data.cache import DatasetCard, read_digests, read_leaked, read_names
from darkroom.data.digests import as_hex
from darkroom.datasets.fixes import Fix, write_fixes
from darkroom.errors import CacheError, DataError
from darkroom.stages import download, preprocess
from darkroom.workspace import Workspace

PROCESSED = "data/processed/folder"


@pytest.fixture
def preprocessed(project):
    """Preprocess 40 train, 8 val and 12 test images; test images 2 and 3 are two others, encoded again."""

    def run(copied=(4, 5), fixes=(), **settings):
        root = project(dataset__name="folder", **settings)
        images = [Image.fromarray(image.transpose(1, 2, 0)) for image in pictures(60)]
        images[50], images[51] = (encode(images[number]) for number in copied)
        for number, image in enumerate(images):
            split, label = ("train", "val", "test")[(number >= 40) + (number >= 48)], ("cat", "dog")[number % 2]
            path = root / "data" / "folder" / split / label / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
        write_fixes(Workspace().fixes, fixes)
        settings = config.load(root / "params.yaml")
        download.run(settings, Workspace())
        preprocess.run(settings, Workspace())
        return root

    return run


def told(root):
    return json.loads((root / "reports" / "preprocess" / "report.json").read_text())["near_duplicates"]


def test_leaks_are_reported_drawn_and_kept_with_the_images(preprocessed, capsys):
    root = preprocessed()

    assert told(root) == {
        "skipped": "", "groups": 2, "images": 4, "groups_across_splits": 2, "groups_with_different_labels": 0,
        "leaked": {"val": 0, "test": 2}, "leaking": 2, "dropped": 0,
    }  # fmt: skip
    assert "such as test/cat/50.png (test) and train/cat/04.png (train)" in capsys.readouterr().err
    assert (root / "reports" / "preprocess" / "near_duplicates.png").exists()
    groups = json.loads((root / "reports" / "preprocess" / "near_duplicates.json").read_text())
    assert [[image["image"] for image in group] for group in groups] == [
        ["train/cat/04.png", "test/cat/50.png"], ["train/dog/05.png", "test/dog/51.png"],
    ]  # fmt: skip
    names = np.array(read_names(root / PROCESSED, "test"))
    assert sorted(names[read_leaked(root / PROCESSED, "test", 12)]) == ["test/cat/50.png", "test/dog/51.png"]


def test_they_are_dropped_from_train(preprocessed):
    root = preprocessed(dataset__on_leak="drop-train")

    names = read_names(root / PROCESSED, "train")
    assert len(names) == DatasetCard.read(root / PROCESSED).sizes["train"] == 38
    assert not {"train/cat/04.png", "train/dog/05.png"} & set(names)
    assert not read_leaked(root / PROCESSED, "test", 12).any()
    assert (told(root)["leaking"], told(root)["dropped"]) == (2, 2)


def test_they_stop_before_anything_is_written(preprocessed):
    with pytest.raises(
        DataError, match=r"50\.png \(test\) and train/cat/04\.png \(train\); nothing was written"
    ) as raised:
        preprocessed(dataset__on_leak="stop")
    assert raised.value.exit_code == 2
    assert len(raised.value.lines) == 1
    assert not Workspace().processed("folder").exists()


def fix(root, name, decision, new=""):
    """A fix of an image of the test split, by its file."""
    names = read_names(root / PROCESSED, "test")
    digest = list(as_hex(read_digests(root / PROCESSED, "test")))[names.index(name)]
    return Fix(digest, name, name.split("/")[1], decision, new, "Ann", "2026-11-29")


@pytest.mark.parametrize("on_leak", ["drop-train", "stop"])
@pytest.mark.parametrize(("decision", "new"), [("drop", ""), ("move", "train")])
def test_leaks_that_fixes_have_ended_are_none(preprocessed, on_leak, decision, new):
    root = preprocessed()
    fixes = [fix(root, name, decision, new) for name in ("test/cat/50.png", "test/dog/51.png")]

    preprocessed(fixes=fixes, dataset__on_leak=on_leak)
    assert (told(root)["leaking"], told(root)["dropped"]) == (0, 0)
    assert DatasetCard.read(root / PROCESSED).sizes == {"train": 42 if new else 40, "val": 8, "test": 10}


def test_an_image_moved_to_where_its_copy_is_not_leaks(preprocessed):
    root = preprocessed()
    names = read_names(root / PROCESSED, "train")
    digest = list(as_hex(read_digests(root / PROCESSED, "train")))[names.index("train/cat/04.png")]
    moved = Fix(digest, "train/cat/04.png", "cat", "move", "val", "Ann", "2026-11-29")

    preprocessed(fixes=[moved], dataset__on_leak="drop-train")
    # Of the pair of dogs the train image goes; the cats are in val and test now.
    assert told(root)["dropped"] == 1
    assert DatasetCard.read(root / PROCESSED).sizes == {"train": 38, "val": 9, "test": 12}
    assert list(read_leaked(root / PROCESSED, "test", 12)).count(True) == 1


def test_they_are_not_looked_for_when_off(preprocessed):
    root = preprocessed(preprocess__audit="off")
    assert told(root)["skipped"] == "preprocess.audit is off"
    assert told(root)["groups"] == 0
    assert not (root / "reports" / "preprocess" / "near_duplicates.png").exists()


def test_the_audit_does_not_change_the_data(preprocessed):
    with_it = DatasetCard.read(preprocessed() / PROCESSED).fingerprint
    assert DatasetCard.read(preprocessed(preprocess__audit="off") / PROCESSED).fingerprint == with_it


def test_a_cache_of_before_has_no_known_leaks(tmp_path):
    assert not read_leaked(tmp_path, "test", 5).any()


@pytest.mark.parametrize(
    "content",
    [
        '{"test": [7]}', '{"test": [-1]}', '{"test": [1.7, true, "3"]}', '{"test": 3}', '{"test": [[0], [1]]}', "{}",
        '{"test": [99999999999999999999999]}', '{"test": [1e400]}', "null", "[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_list_of_leaks_is_refused(tmp_path, content):
    (tmp_path / "leaked.json").write_text(content)
    with pytest.raises(CacheError, match=r"leaked\.json: .*run `darkroom preprocess` again"):
        read_leaked(tmp_path, "test", 5)


def test_what_dropping_train_images_cannot_mend_is_said(preprocessed, capsys, monkeypatch):
    monkeypatch.setattr(preprocess, "MUCH", 0.01)
    preprocessed(dataset__on_leak="drop-train")
    assert "warning: 5% of the train images are left out" in capsys.readouterr().err


def test_a_leak_between_val_and_test_is_no_fault_of_train(preprocessed, capsys):
    preprocessed(copied=(40, 41), dataset__on_leak="drop-train")
    text = capsys.readouterr().err
    assert "train images left out" not in text
    assert "warning: 2 test images with a picture that is in val too: drop-train changes only train" in text
    preprocessed(copied=(40, 41))
    text = capsys.readouterr().err
    assert "near_duplicates.png shows them" in text
    assert "dataset.on_leak can drop" not in text
