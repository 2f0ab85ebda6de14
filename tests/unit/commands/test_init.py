"""A folder of a person's own images becomes a params.yaml that suits them, and it is said why."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from tests.unit.datasets.folders import as_directory, as_tar, as_zip

from darkroom.config import load

BACKBONE = "squeezenet1_1"
RECIPE = f"""
recipe: {{name: photos, about: Features of a pretrained network, format: 1}}
dataset: {{name: folder}}
model: {{name: pretrained, backbone: {BACKBONE}}}
train: {{epochs: 7}}
"""
Run = Callable[..., tuple[int, str, str]]


def picture(width: int, height: int, *, gray: bool = False, seed: int = 0) -> bytes:
    shape = (height, width) if gray else (height, width, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def pets(*sizes: tuple[int, int], **how: bool) -> dict[str, bytes]:
    """Twelve images of two classes, in turn of the sizes."""
    return {
        f"{kind}/{number}.png": picture(*sizes[number % len(sizes)], seed=number, **how)
        for kind in ("cat", "dog")
        for number in range(12)
    }


SMALL = pets((20, 24), (30, 28))
PHOTOS = pets((120, 90), (70, 90), (100, 80))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(torchvision.models.get_model(BACKBONE, weights=None).state_dict(), path)
    return path


@pytest.fixture
def root(project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the recipe photos, on a machine without weights and network."""
    root = project()
    (root / "recipes").mkdir()
    (root / "recipes" / "photos.yaml").write_text(RECIPE, encoding="utf-8")
    (root / "recipes" / "mine.yaml").write_bytes((root / "params.yaml").read_bytes())  # so that nothing is lost
    monkeypatch.setenv("TORCH_HOME", str(root / "torch"))

    def refuse(*given: object, **settings: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return root


@pytest.mark.parametrize("make", [as_directory, as_zip, as_tar])
def test_small_pictures_are_for_a_small_network(root: Path, darkroom: Run, make: Callable[..., Path]) -> None:
    source = make(root / "pets", SMALL)
    code, output, errors = darkroom("init", str(source))

    assert (code, errors) == (0, "")
    assert output.splitlines() == [
        f"{source}: 24 images in 2 classes (cat 12, dog 12)",
        "  25x26 pixels in the median, in color",
        "  no splits given; val and test will be cut from train",
        "params.yaml is now a small network, trained from scratch: the images have 64 pixels a side or fewer",
        "Next: `dvc repro`, then `darkroom results` and `darkroom serve`",
    ]
    config = load(root / "params.yaml")
    assert (config.dataset.name, config.dataset.path) == ("folder", source.name)
    assert config.model.name == "simple-cnn"


def test_photographs_are_for_the_recipe_once_the_weights_are_here(root: Path, darkroom: Run, weights: Path) -> None:
    source = as_directory(root / "pets", {f"train/{name}": each for name, each in PHOTOS.items()})
    code, output, errors = darkroom("init", str(source), "--weights", os.path.relpath(weights))

    assert (code, errors) == (0, "")
    assert "  100x90 pixels in the median, in color" in output.splitlines()
    assert "  splits: train 24 as given; val and test will be cut from train" in output.splitlines()
    assert (
        "params.yaml is now the recipe photos, as the images have more than 64 pixels a side: "
        "Features of a pretrained network" in output.splitlines()
    )
    config = load(root / "params.yaml")
    assert (config.recipe.name, config.train.epochs, config.model.backbone) == ("photos", 7, BACKBONE)
    assert Path(str(config.model.weights_path)).samefile(weights)
    assert config.dataset.path == "pets"


def test_photographs_without_weights_are_for_a_small_network_and_it_is_said_what_is_missing(
    root: Path, darkroom: Run
) -> None:
    source = as_directory(root / "pets", PHOTOS)
    code, output, errors = darkroom("init", str(source))

    assert code == 0
    assert "params.yaml is now a small network, trained from scratch" in output
    assert errors.startswith("warning: for photographs the recipe photos is far better, but its weights are not here: ")
    assert "no network" in errors
    assert f"darkroom init {source} --force" in " ".join(errors.split())
    assert load(root / "params.yaml").model.name == "simple-cnn"


def test_weights_of_another_model_are_refused_and_nothing_is_written(root: Path, darkroom: Run, tmp_path: Path) -> None:
    before = (root / "params.yaml").read_bytes()
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    code, output, errors = darkroom("init", str(as_directory(root / "pets", PHOTOS)), "--weights", "other.pth")

    assert (code, output) == (2, "")
    assert errors.startswith("error: ")
    assert (root / "params.yaml").read_bytes() == before


def test_a_name_with_spaces_is_quoted_in_the_command_to_copy(root: Path, darkroom: Run) -> None:
    source = as_directory(root / "my pets", PHOTOS)
    _, _, errors = darkroom("init", str(source))

    assert f"darkroom init '{source}' --force" in " ".join(errors.split())


@pytest.mark.parametrize(("weights", "message"), [("none.pth", "none.pth: no file"), (".", ".: no file")])
def test_weights_that_are_no_file_are_refused(root: Path, darkroom: Run, weights: str, message: str) -> None:
    code, _, errors = darkroom("init", str(as_directory(root / "pets", PHOTOS)), "--weights", weights)

    assert (code, errors.startswith(f"error: {message}")) == (2, True)


def test_a_path_that_is_not_there_is_refused_by_its_name(root: Path, darkroom: Run) -> None:
    code, output, errors = darkroom("init", "missing")

    assert (code, output) == (2, "")
    assert errors == "error: missing: not found; name a directory, or a zip or tar archive, of images\n"


def test_gray_and_color_are_all_read_in_color(root: Path, darkroom: Run) -> None:
    mixed = SMALL | {f"cat/gray{number}.png": picture(20, 24, gray=True) for number in range(3)}
    code, output, _ = darkroom("init", str(as_directory(root / "pets", mixed)))

    assert code == 0
    assert "gray and in color, all read in color" in output
    assert load(root / "params.yaml").preprocess.channels == 3


def test_gray_pictures_stay_gray(root: Path, darkroom: Run) -> None:
    _, output, _ = darkroom("init", str(as_directory(root / "pets", pets((20, 20), gray=True))))

    assert "  20x20 pixels in the median, gray" in output.splitlines()
    assert load(root / "params.yaml").preprocess.channels is None


def test_edits_that_are_saved_nowhere_else_are_kept(root: Path, darkroom: Run) -> None:
    source = as_directory(root / "pets", SMALL)
    params = root / "params.yaml"
    edited = params.read_text(encoding="utf-8").replace("epochs:", "epochs: 77 #", 1)
    params.write_text(edited, encoding="utf-8")

    code, output, errors = darkroom("init", str(source))
    assert (code, output) == (2, "")
    assert "has edits that are saved nowhere else" in errors
    assert params.read_text(encoding="utf-8") == edited

    assert darkroom("init", str(source), "--force")[0] == 0
    assert load(params).dataset.name == "folder"


def test_other_images_need_no_force_while_nobody_has_edited_the_settings(root: Path, darkroom: Run) -> None:
    params = root / "params.yaml"
    mixed = {f"{kind}/{number}.png": picture(9, 9, gray=number % 2 == 0) for kind in "ab" for number in range(9)}
    for name, members in (("signs", SMALL), ("mixed", mixed), ("more", SMALL)):
        code, _, errors = darkroom("init", str(as_directory(root / name, members)))
        assert (code, errors) == (0, "")
        assert load(params).dataset.path == name

    edited = params.read_text(encoding="utf-8") + "\n# a thought\n"
    params.write_text(edited, encoding="utf-8")
    assert darkroom("init", str(root / "signs"))[0] == 2
    assert params.read_text(encoding="utf-8") == edited


def test_a_table_of_labels_is_named_in_the_settings(root: Path, darkroom: Run) -> None:
    flat = {name.replace("/", "-"): content for name, content in SMALL.items()}
    lines = ["file,label,lens", *(f"{name},{name.split('-')[0]},A" for name in flat)]
    source = as_directory(root / "pets", flat | {"labels.csv": "\n".join(lines).encode()})

    code, output, errors = darkroom("init", str(source))
    assert (code, output) == (2, "")
    assert "name it in dataset.labels (or --labels of init)" in " ".join(errors.split())
    code, output, errors = darkroom("init", str(source), "--labels", "labels.csv")
    assert (code, errors) == (0, "")
    assert output.startswith(f"{source}: 24 images in 2 classes (cat 12, dog 12)\n")
    dataset = load(root / "params.yaml").dataset
    assert (dataset.path, dataset.labels) == ("pets", "labels.csv")
    # And what it wrote is no edit of a person.
    assert darkroom("init", str(as_directory(root / "other", SMALL)))[0] == 0
    assert load(root / "params.yaml").dataset.labels is None


def test_a_table_that_is_not_there_is_refused(root: Path, darkroom: Run) -> None:
    before = (root / "params.yaml").read_bytes()
    code, output, errors = darkroom("init", str(as_directory(root / "pets", SMALL)), "--labels", "labels.csv")
    assert (code, output) == (2, "")
    assert "labels.csv" in errors
    assert (root / "params.yaml").read_bytes() == before


def test_a_second_time_changes_nothing(root: Path, darkroom: Run) -> None:
    source = as_directory(root / "pets", SMALL)
    first = darkroom("init", str(source))
    written = (root / "params.yaml").read_bytes()

    assert darkroom("init", str(source)) == first
    assert (root / "params.yaml").read_bytes() == written


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({}, "no images"),
        ({"cat/1.png": picture(9, 9), "1.png": picture(9, 9)}, "1.png"),
        ({f"{kind}/{number}.png": b"no" for kind in ("cat", "dog") for number in range(9)}, "none of 18 images can be"),
        ({f"{kind}/{number}.png": picture(9, 9) for kind in ("cat", "dog") for number in range(2)}, "at least 3"),
    ],
    ids=["empty", "beside the classes", "broken", "two of a class"],
)
def test_what_cannot_be_read_is_refused_as_the_stages_refuse_it(
    root: Path, darkroom: Run, members: dict[str, bytes], reason: str
) -> None:
    before = (root / "params.yaml").read_bytes()
    (root / "pets").mkdir()
    code, output, errors = darkroom("init", str(as_directory(root / "pets", members)))

    assert (code, output) == (2, "")
    assert errors.startswith("error: ")
    assert reason in errors
    assert (root / "params.yaml").read_bytes() == before


def test_outside_a_project_it_says_where_to_go(darkroom: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, errors = darkroom("init", str(as_directory(tmp_path / "pets", SMALL)))

    assert code == 2
    assert "run this in the project's root" in errors
    assert not (tmp_path / "params.yaml").exists()
