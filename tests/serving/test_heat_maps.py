"""`darkroom predict --explain`: a heat map of each picture that could be read, or one line why not."""

import csv
import io
import zipfile
from threading import Event

import numpy as np
import pytest
import torch
from PIL import Image
from tests.serving.fakes import CLASSES, png
from tests.unit.refusals import refused
from tests.wait import SECONDS

from darkroom.errors import DataError, ModelError
from darkroom.prediction import bulk
from darkroom.prediction.bulk import answer_all
from darkroom.prediction.heat_maps import check_directory, open_heat_maps
from darkroom.prediction.inputs import InputImages
from darkroom.prediction.predictor import Predictor
from darkroom.prediction.shards import Picture

SIDE = 8


def corner(images):
    """Bright where the upper left corner is."""
    light = images[:, 0, :4, :4].float().mean((1, 2)) / 255
    return torch.stack([1 - light, light], 1) * 10


@pytest.fixture
def predictor():
    return Predictor(corner, CLASSES, (1, SIDE, SIDE), "1")


@pytest.fixture
def pictures(tmp_path):
    """A white corner, a picture that is broken, and another one with the same name elsewhere."""
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[:4, :4] = 255
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    for name, content in {
        "a/1.png": written.getvalue(),
        "a/b/2.png": png(20)[:30],
        "c/1.png": written.getvalue(),
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return [str(tmp_path / "a"), str(tmp_path / "c")]


def explain(predictor, pictures, directory):
    with open_heat_maps(directory, predictor) as draw:
        for _ in answer_all(predictor, InputImages(pictures).shards(), draw=draw):
            pass
    return sorted(path.name for path in directory.iterdir())


def index(directory):
    """Which picture each file is of, as index.csv says."""
    with (directory / "index.csv").open(newline="", encoding="utf-8") as opened:
        header, *rows = csv.reader(opened)
    assert header == ["file", "picture"]
    return rows


def test_every_picture_that_can_be_read_has_a_file_with_its_number(predictor, pictures, tmp_path):
    assert explain(predictor, pictures, tmp_path / "maps") == ["000001-1.png.png", "000003-1.png.png", "index.csv"]
    assert index(tmp_path / "maps") == [
        ["000001-1.png.png", f"{pictures[0]}/1.png"],
        ["000003-1.png.png", f"{pictures[1]}/1.png"],
    ]


def test_pictures_that_threads_finish_in_another_order_keep_their_names(predictor, tmp_path, monkeypatch):
    for name, value in {"BATCH": 1, "PARALLEL_FROM": 1, "processes": bulk._threads}.items():
        monkeypatch.setattr(bulk, name, value)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    brightness = {"1.png": 10, "2.png": 90, "3.png": 170}
    for name, value in brightness.items():
        (tmp_path / name).write_bytes(png(value, (SIDE, SIDE)))
    second_is_drawn, order = Event(), []

    with open_heat_maps(tmp_path / "maps", predictor) as draw:

        def second_before_first(given, pixels, probabilities):
            (number, _) = given[0]
            if number == 1:
                assert second_is_drawn.wait(SECONDS)
            draw(given, pixels, probabilities)
            order.append(number)
            if number == 2:
                second_is_drawn.set()

        images = InputImages([str(tmp_path / name) for name in brightness])
        for _ in answer_all(predictor, images.shards(), draw=second_before_first):
            pass

    assert order.index(2) < order.index(1)
    assert index(tmp_path / "maps") == [
        [f"00000{number}-{name}.png", str(tmp_path / name)] for number, name in enumerate(brightness, 1)
    ]
    for file, picture in index(tmp_path / "maps"):
        with Image.open(tmp_path / "maps" / file) as shown:
            assert shown.getpixel((0, 0))[0] == brightness[picture.rpartition("/")[2]]


def test_paths_that_look_alike_in_a_name_have_files_of_their_own(predictor, tmp_path):
    long = "z" * 70
    names = ["a/b.png", "a_b.png", f"1{long}.png", f"2{long}.png", "A_B.png"]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in names:
            archive.writestr(name, png(200))

    found = explain(predictor, [str(tmp_path / "all.zip")], tmp_path / "maps")

    assert len({name.lower() for name in found}) == len(names) + 1
    rows = index(tmp_path / "maps")
    assert [file for file, _ in rows] == found[:-1]
    assert sorted(picture.partition("all.zip/")[2] for _, picture in rows) == sorted(names)


def test_a_file_shows_what_the_model_saw_plain_and_tinted_where_it_looked(predictor, pictures, tmp_path):
    explain(predictor, pictures[1:], tmp_path / "maps")

    shown = np.asarray(Image.open(tmp_path / "maps" / "000001-1.png.png").convert("RGB")).astype(int)
    times = shown.shape[0] // SIDE
    plain, tint = shown[::times, : shown.shape[1] // 2 : times], shown[::times, shown.shape[1] // 2 :: times]
    assert (plain[:4, :4] == 255).all()
    assert not plain[4:].any()
    colored = np.ptp(tint, axis=2) > 40
    assert colored[:3, :3].all()
    assert not colored[6:].any()
    assert not colored[:, 6:].any()


def test_pictures_of_an_archive_are_named_by_their_path_in_it(predictor, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("x/1.png", "y/1.png", "y/" + "ä" * 90 + ".png"):
            archive.writestr(name, png(200))

    found = explain(predictor, [str(tmp_path / "all.zip")], tmp_path / "maps")

    assert found == ["000001-x_1.png.png", "000002-y_1.png.png", f"000003-{'ä' * 56}.png.png", "index.csv"]


def test_a_name_that_is_not_utf8_does_not_end_the_command(predictor, tmp_path):
    name = "caf\udce9.png"
    with open_heat_maps(tmp_path / "maps", predictor) as draw:
        draw([(1, Picture(name, name))], np.zeros((1, 1, SIDE, SIDE), np.uint8), np.array([[1.0, 0.0]]))

    assert (tmp_path / "maps" / "000001-caf_xe9.png.png").is_file()
    assert index(tmp_path / "maps") == [["000001-caf_xe9.png.png", "caf\\xe9.png"]]


def test_nothing_is_left_of_heat_maps_that_were_interrupted(predictor, tmp_path):
    def fail():
        with open_heat_maps(tmp_path / "maps", predictor) as draw:
            picture = next(iter(InputImages([str(tmp_path / "1.png")])))
            draw([(1, picture)], np.zeros((1, 1, SIDE, SIDE), np.uint8), np.array([[1.0, 0.0]]))
            raise KeyboardInterrupt

    (tmp_path / "1.png").write_bytes(png(0))
    with pytest.raises(KeyboardInterrupt):
        fail()

    assert [path.name for path in tmp_path.iterdir()] == ["1.png"]


def test_a_place_that_holds_something_is_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("all of it")
    for path, what in ((tmp_path / "full", "is not empty"), (tmp_path / "full" / "thesis.txt", "is a file")):
        with pytest.raises(DataError, match=rf"^--explain {path}: {what}; expected a new or empty directory$"):
            check_directory(path)
    (tmp_path / "empty").mkdir()
    check_directory(tmp_path / "empty")
    check_directory(tmp_path / "new")


def test_a_model_that_is_too_slow_is_refused_before_anything_is_written(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr("darkroom.explanation.explainer._seconds", lambda run: 1e6)

    with pytest.raises(ModelError, match="heat maps: one would take"), open_heat_maps(tmp_path / "maps", predictor):
        pass

    assert not list(tmp_path.iterdir())


def test_the_champion_is_explained_by_the_command(registered, darkroom, tmp_path):
    (tmp_path / "1.png").write_bytes(png(200, (8, 8)))

    code, _, errors = darkroom("predict", "1.png", "--explain", "maps")

    assert (code, "maps: 1 heat map" in errors) == (0, True)
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["000001-1.png.png", "index.csv"]
    refused(darkroom("predict", "1.png", "--explain", "maps"), r"--explain maps: is not empty; expected a new or empty")
    refused(
        darkroom("predict", "1.png", "--explain", "new", "--ray-address", "auto"),
        r"--explain: heat maps are drawn on this machine alone; leave out --ray-address",
    )
