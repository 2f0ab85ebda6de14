"""What lies in a folder, and how it would be read, told before anything is done; and told again by the stages."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.unit.datasets.folders import as_directory, as_zip

KINDS = ("cat", "dog")


def png(seed):
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def members(*folders, count=12):
    return {
        f"{folder}/{kind}/{number:02}.png": png([*f"{folder}/{kind}".encode(), number])
        for folder in folders
        for kind in KINDS
        for number in range(count)
    }


@pytest.mark.parametrize("make", [as_directory, as_zip])
def test_a_folder_is_told_as_it_would_be_read(darkroom, tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    others = {"Training/cat/a.txt": b"x", "labels/1.xml": b"x", "labels/.b": b"x", "pred/1.png": png(1)}
    source = make(tmp_path / "pets", members("Training", "Testing") | others)
    code, output, errors = darkroom("datasets", "--inspect", str(source))
    assert (code, errors) == (0, "")
    lines = [line.rstrip() for line in output.splitlines()]
    assert lines[0] == f"{source}: 52 files, 49 images"
    assert "    Training/: 24 images" in lines
    assert "left out: 3 files (1 .txt, 1 .xml, 1 hidden), such as Training/cat/a.txt" in lines
    assert "  no image in labels/ (1 .xml, 1 hidden)" in lines
    assert "1 image without a class folder, or in one for predictions, left out, such as pred/1.png" in lines
    assert [line.split() for line in lines if line.startswith((" class", " cat", " dog"))] == [
        ["class", "train", "test"],
        ["cat", "12", "12"],
        ["dog", "12", "12"],
    ]
    used = re.search(r"^to be used as: (\d+) train, (\d+) val, 24 test \(val cut from train\)$", output, re.MULTILINE)
    assert sum(map(int, used.groups())) == 24
    assert any(line.startswith(f"val has {used[2]} images: ") for line in lines)
    assert lines[lines.index("dataset:") :][1:3] == ["  name: folder", f'  path: "{source}"']
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets"]


def test_a_problem_is_told_as_the_stages_tell_it_after_what_was_found(darkroom, project):
    root = project(dataset__name="folder")
    as_directory(root / "data" / "folder", members("Training", "Testing") | {"extra/1.png": png(1)})
    code, output, errors = darkroom("datasets", "--inspect", "data/folder")
    assert code == 2
    assert "data/folder: 49 files, 49 images" in output
    assert "dataset:" not in output
    assert errors.startswith("error: names of splits (Testing/, Training/) are mixed with other names (extra/)")
    assert darkroom("download")[0] == 0
    assert darkroom("preprocess") == (2, "", errors)


def test_the_setting_for_names_is_used(darkroom, project):
    root = project(dataset__name="folder")
    as_zip(root / "a.zip", {f"{kind}/{number:02}.png": png(number) for kind in ("AA", "dog") for number in range(20)})
    content = (root / "a.zip").read_bytes().replace(b"AA/", "猫/".encode("gbk"))
    (root / "a.zip").write_bytes(content)
    code, _, errors = darkroom("datasets", "--inspect", "a.zip")
    assert code == 2
    assert "set dataset.encoding: " in errors
    assert "gbk reads '猫/00.png'" in errors
    project(dataset__name="folder", dataset__encoding="gbk")
    code, output, _ = darkroom("datasets", "--inspect", "a.zip")
    assert code == 0
    assert "  encoding: gbk" in output.splitlines()


def test_a_table_of_labels_is_read_as_the_stages_read_it(darkroom, project):
    root = project(dataset__name="folder", dataset__labels="labels.csv")
    table = [f"{number:02}.png,{KINDS[number % 2]},patient {number // 4}" for number in range(120)]
    images = {f"scans/{number:02}.png": png(number) for number in range(120)}
    content = "\n".join(["file,label,patient", *table]).encode()
    as_directory(root / "data" / "folder", images | {"labels.csv": content, "unknown.png": png(200)})
    code, output, _ = darkroom("datasets", "--inspect", "data/folder")
    assert code == 0
    lines = output.splitlines()
    assert "labels.csv does not name 1 of 121 images, such as unknown.png; left out" in lines
    assert ["cat", "60"] in [line.split() for line in lines]
    used = re.search(r"^to be used as: about (\d+) train, (\d+) val, (\d+) test", output, re.MULTILINE)
    assert sum(map(int, used.groups())) == 120
    assert '  labels: "labels.csv"' in lines


def test_a_path_that_is_not_there_is_refused(darkroom, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, errors = darkroom("datasets", "--inspect", "nowhere")
    assert code == 2
    assert errors.startswith("error: nowhere: not found")


def test_the_stages_tell_and_record_what_is_left_out(darkroom, project):
    root = project(dataset__name="folder")
    others = {"train/cat/a.txt": b"x", "train/dog/.b": b"x", "test/1.png": png(1), "test/2.png": png(2)}
    as_directory(root / "data" / "folder", members("train", count=20) | others)
    code, _, told = darkroom("download")
    assert code == 0
    assert "left out: 2 files (1 .txt, 1 hidden), such as train/cat/a.txt\n" in told
    code, _, told = darkroom("preprocess")
    assert code == 0
    expected = (
        "2 images without a class folder, or in one for predictions, left out, such as test/1.png; the test split is "
        "cut from train\n"
    )
    assert f"warning: {expected}" in told
    report = json.loads(Path("reports/preprocess/report.json").read_text())["left_out"]
    assert (report["files"], report["images"], report["left_out"]) == (44, 42, {".txt": 1, "hidden": 1})
    assert report["unlabelled"] == {"count": 2, "examples": ["test/1.png", "test/2.png"]}


def test_a_class_whose_files_are_no_images_stops_preprocess(darkroom, project):
    root = project(dataset__name="folder")
    lost = {f"fox/{number}.heic": b"x" for number in range(3)}
    as_directory(root / "data" / "folder", {f"{kind}/1.png": png(1) for kind in KINDS} | lost)
    code, _, told = darkroom("download")
    assert code == 0
    assert "left out: 3 files (3 .heic), such as fox/0.heic" in told
    code, _, told = darkroom("preprocess")
    assert code == 2
    assert told.startswith("error: fox/ has no image in it (3 .heic), but is next to the class folders")
