"""The command line of exporting and of predicting with what was exported."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.unit.refusals import refused

from darkroom.config import parse
from darkroom.models import card as model_card
from darkroom.models import files as model_files
from darkroom.models.classifier import build_classifier


def test_predict_needs_a_champion(darkroom, project, tmp_path):
    project()
    picture = tmp_path / "1.png"
    picture.write_bytes(b"")
    refused(darkroom("predict", str(picture)), r"'darkroom-digits' has no champion; `dvc repro` trains")


def test_predict_needs_a_store(darkroom, project):
    root = project()
    (root / "mlflow.db").unlink()
    (root / "1.png").write_bytes(b"")
    refused(darkroom("predict", "1.png"), r"no MLflow store at sqlite:.*mlflow\.db; `dvc repro` trains")


def test_predict_refuses_files_that_are_not_there_or_no_images(darkroom, trained, tmp_path):
    refused(darkroom("predict", "nowhere.png"), r"nowhere\.png: no such file")
    for command in ("evaluate", "register"):
        assert darkroom(command)[0] == 0
    (tmp_path / "text.png").write_text("not an image")
    refused(
        darkroom("predict", str(tmp_path / "text.png")), r"text\.png: cannot be decoded \(not an image; expected png, "
    )


def test_an_exported_file_is_a_plain_state_dict_that_the_architecture_takes(darkroom, trained):
    assert darkroom("export", "--format", "pth", "--output", "out/digits.pth")[0] == 0
    weights = torch.load("out/digits.pth", weights_only=True)
    card = model_card.ModelCard.read(Path("out/digits.json"))
    classifier = build_classifier(parse(card.settings, where="").model, card.dataset_card)
    classifier.load_state_dict(weights)
    original, _ = model_files.load_classifier(trained / "models/model.safetensors", trained / "models/model.json")
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(classifier.eval()(images), original(images))


def test_an_exported_file_answers_for_a_picture_without_data_or_store(darkroom, trained, tmp_path_factory):
    assert darkroom("export", "--format", "pth")[0] == 0
    Image.new("RGB", (70, 90), "white").save(trained / "picture.jpg")
    for path in ("data", "mlruns"):
        shutil.rmtree(trained / path, ignore_errors=True)
    (trained / "mlflow.db").unlink()
    code, output, errors = darkroom("predict", "--weights", "models/exported/model.pth", "picture.jpg", "--json")
    assert code == 0
    answer = json.loads(output)
    assert answer["version"] == "models/exported/model.pth"
    assert answer["predictions"][0]["inverted"] is False
    # A file of weights does not tell that all digits lie on a dark ground.
    assert "1 of 1 have another background, dark or light, than most training images probably have" in errors
    assert "try again with --invert" in errors
    assert answer["predictions"][0]["unlike_training"] is False  # a file of weights tells nothing of that
    assert sum(answer["predictions"][0]["probabilities"].values()) == pytest.approx(1)
    code, output, errors = darkroom("predict", "--weights", "models/exported/model.pth", "picture.jpg", "--no-invert")
    assert (code, errors) == (0, "")


@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_every_file_of_weights_answers_alike(darkroom, trained, form):
    assert darkroom("export", "--format", form, "--output", f"out/digits.{form}")[0] == 0
    Image.new("L", (8, 8), 30).save(trained / "picture.png")
    code, output, _ = darkroom("predict", "--weights", f"out/digits.{form}", "picture.png", "--json")
    assert code == 0
    classifier, _ = model_files.load_classifier(trained / "models/model.safetensors", trained / "models/model.json")
    with torch.no_grad():
        expected = classifier(torch.full((1, 1, 8, 8), 30, dtype=torch.uint8)).softmax(1)[0]
    found = json.loads(output)["predictions"][0]["probabilities"]
    assert [found[str(digit)] for digit in range(10)] == pytest.approx(expected.tolist(), rel=1e-4)


def test_a_negative_is_told_of(darkroom, registered):
    Image.new("L", (9, 9), "white").save("picture.png")
    code, output, errors = darkroom("predict", "picture.png")
    assert code == 0
    assert "picture.png" in output
    assert "1 of 1 shown to the model as negatives, like the training images\n" in errors


@pytest.fixture
def exported(darkroom, trained):
    """A project with a file of weights; gives what asks it."""
    assert darkroom("export", "--format", "pth")[0] == 0
    return lambda *arguments: darkroom("predict", "--weights", "models/exported/model.pth", *arguments)


def shades(root, **folders):
    """Write gray pictures below ``root``: of each folder so many."""
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True)
        for row in range(count):
            Image.new("L", (8, 8), 3 * row).save(root / folder / f"{row}.png")


def test_a_directory_is_answered_in_a_file_and_its_counts_are_told(exported, tmp_path):
    shades(tmp_path / "test", **{"3": 13, "7": 12})
    code, output, errors = exported(str(tmp_path / "test"), "--output", "out/answers.csv")
    assert (code, errors) == (0, "out/answers.csv: 25 lines\n")
    assert "of 25 are the class that their folder is named as: accuracy" in output
    lines = Path("out/answers.csv").read_text().splitlines()
    assert lines[0].startswith("file,label,probability,p_0,p_1,")
    assert len(lines) == 26


def test_pictures_that_cannot_be_read_do_not_hinder_the_others(exported, tmp_path):
    shades(tmp_path / "mixed", a=3)
    for row in range(7):
        (tmp_path / "mixed" / f"broken{row}.jpg").write_text("no image")
    code, output, errors = exported(str(tmp_path / "mixed"), "--json")
    assert code == 0
    found = json.loads(output)["predictions"]
    assert len(found) == 10
    assert sum("error" in each for each in found) == 7
    assert "warning: 7 of 10 images have no answer: " in errors
    assert errors.count("cannot be decoded") == 5
    assert "and so on" in errors


def test_pictures_none_of_which_can_be_read_are_refused(exported, tmp_path):
    for row in range(2):
        (tmp_path / f"broken{row}.jpg").write_text("no image")
    refused(
        exported(str(tmp_path / "broken0.jpg"), str(tmp_path / "broken1.jpg"), "--output", "answers.csv"),
        r"none of 2 images can be read; the first is .*broken0\.jpg: cannot be decoded",
    )
    assert not Path("answers.csv").exists()


def test_an_unknown_form_of_output_is_refused_before_the_model_is_loaded(darkroom, project):
    root = project()
    shades(root, pictures=1)
    refused(
        darkroom("predict", "pictures", "--output", "answers.xls"), r"--output answers\.xls: no known form '\.xls'; "
    )


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--weights", "none.pth"], r"none\.pth: has no card beside it; name its architecture"),
        (["--weights", "none.pth", "--model", "mlp"], r"none\.pth: no such file"),
        (["--weights", "none.pth", "--model", "nlp"], r"--model: no architecture 'nlp'; did you mean 'mlp'"),
        (
            ["--weights", "models/exported/model.pth", "--model", "mlp"],
            r"weights of simple-cnn, as .* says, not of mlp",
        ),
        (["--weights", "params.yaml", "--model", "mlp"], r"params\.yaml: not a file of weights, or damaged"),
        (["--model", "mlp"], r"--model: names the architecture of --weights, which is not given"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(darkroom, trained, arguments, pattern):
    assert darkroom("export", "--format", "pth")[0] == 0
    Image.new("L", (9, 9)).save(trained / "picture.png")
    refused(darkroom("predict", "picture.png", *arguments), pattern)


def test_an_export_that_is_refused_says_so_in_one_line(darkroom, trained):
    refused(darkroom("export", "--format", "pth", "-o", "digits.json"), r"digits\.json: .* in the format pth ends in")
    refused(darkroom("export", "--format", "pth", "--quantize", "int8"), r"--quantize: of onnx only, not of pth")
    refused(darkroom("export", "--format", "pt2", "--model", "champion"), r"holds no versions of darkroom-digits")
    assert not list(trained.rglob("digits.*json"))
    assert not (trained / "models" / "exported").exists()


def test_export_needs_a_model(darkroom, project):
    root = project()
    refused(darkroom("export", "--format", "onnx"), r"model\.json: not found; run `darkroom train`")
    assert not (root / "models").exists()
