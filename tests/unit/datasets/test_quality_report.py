"""What preprocess says about the quality of images: a list, a picture, and a line each for images and for files."""

import json

import numpy as np
import pytest
from PIL import Image
from tests.unit.datasets.test_quality_flaws import pictures

from darkroom import config
from darkroom.data.cache import read_names, read_sizes
from darkroom.stages import download, preprocess
from darkroom.workspace import Workspace

REPORT = "reports/preprocess"
PROCESSED = "data/processed/folder"


@pytest.fixture
def preprocessed(project):
    """Preprocess 60 pictures: 20 is dark and 21 black. With ``leaky``, each class has its own kind of file."""

    def run(*, leaky=False, **settings):
        root = project(dataset__name="folder", preprocess__on_suspect="warn", **settings)
        images = pictures(side=48, count=60)
        images[20] = images[20] // 8
        images[21] = 0
        for number, image in enumerate(images.transpose(0, 2, 3, 1)):
            kind = number % 2
            path = root / "data" / "folder" / ("cat", "dog")[kind] / f"{number:02}.{('png', 'jpg')[leaky and kind]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).resize((80, 60) if leaky and kind else (64, 48)).save(path)
        settings = config.load(root / "params.yaml")
        download.run(settings, Workspace())
        preprocess.run(settings, Workspace())
        return root

    return run


@pytest.mark.usefixtures("drawn")
def test_flawed_images_are_listed_where_they_are_and_drawn(preprocessed, capsys):
    root = preprocessed()

    found = json.loads((root / REPORT / "quality.json").read_text())
    assert found["associations"] == []
    assert [(each["kind"], each["label"], each["file"]) for each in found["findings"]] == [
        ("one color", "dog", "dog/21.png"), ("dark", "cat", "cat/20.png"),
    ]  # fmt: skip
    for each in found["findings"]:
        assert each.keys() == {"split", "row", "kind", "label", "file", "score", "reason"}
        assert read_names(root / PROCESSED, each["split"])[each["row"]] == each["file"]
        assert 0.5 <= each["score"] <= 1
    with Image.open(root / REPORT / "quality.png") as picture:
        assert min(picture.size) > 200
    errors = capsys.readouterr().err
    # The black one is among the suspects.
    assert "1 suspicious image (1 dark): reports/preprocess/quality.png shows them" in errors
    assert "told from their files" not in errors


def test_classes_of_different_files_are_warned_of_in_one_line(preprocessed, capsys):
    root = preprocessed(leaky=True)

    lines = [line for line in capsys.readouterr().err.splitlines() if "told from their files" in line]
    assert len(lines) == 1
    assert "from the size in pixels (100% right, 50% by chance; epsilon squared 1.00)" in lines[0]
    assert "from the type (100% right, 50% by chance; Cramer's V 1.00)" in lines[0]
    found = json.loads((root / REPORT / "quality.json").read_text())["associations"]
    assert [(each["attribute"], each["of"]) for each in found if each["of"] == "file"] == [
        ("size in pixels", "file"), ("type", "file"),
    ]  # fmt: skip
    for split in ("train", "val", "test"):
        are_dogs = np.array([name.startswith("dog") for name in read_names(root / PROCESSED, split)])
        assert np.array_equal(read_sizes(root / PROCESSED, split)[:, 0], np.where(are_dogs, 60, 48))


def test_off_looks_for_nothing(preprocessed, capsys):
    root = preprocessed(leaky=True, preprocess__audit="off")

    assert not list((root / REPORT).glob("quality*"))
    errors = capsys.readouterr().err
    assert "suspicious" not in errors
    assert "told from their files" not in errors


@pytest.mark.parametrize(("audit", "is_judged"), [("auto", False), ("full", True)])
def test_a_published_dataset_is_judged_only_if_asked(project, audit, is_judged):
    root = project(dataset__name="digits", preprocess__audit=audit)
    settings = config.load(root / "params.yaml")
    download.run(settings, Workspace())
    preprocess.run(settings, Workspace())
    assert (root / REPORT / "quality.json").exists() == is_judged
