"""A model that answers with other classes than the dataset here has is told apart."""

import pytest
from tests.unit.data.test_cache import write

from darkroom.serving.class_check import warn_of_other_classes


@pytest.mark.parametrize("classes", [["a", "b"], ["b", "a"]])
def test_nothing_is_said_of_a_model_of_the_same_classes(tmp_path, classes, capsys):
    write(tmp_path)
    warn_of_other_classes("version 3", classes, tmp_path)
    assert capsys.readouterr().err == ""


def test_classes_that_came_and_went_are_named(tmp_path, capsys):
    write(tmp_path, classes=["a", "bird"])
    warn_of_other_classes("version 3", ["a", "fish"], tmp_path)
    said = capsys.readouterr().err
    assert said.startswith("warning: version 3 was trained on other classes than ")
    assert "has now (bird came; fish went), and answers with its own; `darkroom models`" in said


@pytest.mark.parametrize("content", [None, "damaged"])
def test_nothing_is_said_where_no_dataset_can_be_read(tmp_path, content, capsys):
    if content:
        (tmp_path / "dataset.json").write_text(content)
    warn_of_other_classes("version 3", ["a", "b"], tmp_path)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("registered")
def test_predict_names_the_version_and_warns_of_classes_that_went(darkroom, evaluated):
    picture = next((evaluated / "reports" / "evaluate" / "gallery").glob("*.png"))
    code, _, errors = darkroom("predict", str(picture))
    assert (code, errors) == (0, "predict: darkroom-digits version 1 answers\n")

    card = evaluated / "data" / "processed" / "digits" / "dataset.json"
    card.write_text(card.read_text().replace('"9"', '"neun"'))
    code, _, errors = darkroom("predict", str(picture))
    assert code == 0
    assert "darkroom-digits version 1 was trained on other classes than data/processed/digits has now" in errors
    assert "(neun came; 9 went)" in errors
