"""`darkroom data-diff`: what lies between the data of registered models and those that are preprocessed here."""

import csv
import json
import re

import pytest

NAME = "darkroom-digits"


@pytest.fixture
def change_here(evaluated):
    """Change the list of the preprocessed images, row by row; those for which None is given are left out."""

    def change_here(change):
        path = evaluated / "data" / "processed" / "digits" / "files.csv"
        with path.open(newline="") as opened:
            rows = [change(row) for row in csv.DictReader(opened)]
        with path.open("w", newline="") as opened:
            table = csv.DictWriter(opened, rows[0])
            table.writeheader()
            table.writerows(row for row in rows if row)

    return change_here


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("a", ["champion", "1", "here"])
def test_the_data_of_the_model_that_lies_here_are_those_here(darkroom, a):
    code, output, _ = darkroom("data-diff", a)

    assert code == 0
    name = a if a == "here" else "version 1"
    assert output == (
        f"From {name} (1,797 images) to here (1,797): 0 added, 0 removed, 0 relabeled, 0 moved between splits\n"
        "360 images are in both test splits with the same class\n"
    )


@pytest.mark.usefixtures("registered")
def test_what_changed_since_the_champion_is_shown(darkroom, change_here):
    def change(row):
        if row["class"] == "9":
            return row | {"class": "neun"}
        if row["split"] == "val" and row["class"] == "8":
            return None
        return row | {"split": "test"} if row["split"] == "val" and row["class"] == "7" else row

    change_here(change)
    code, output, _ = darkroom("data-diff")

    assert code == 0
    lines = [re.split(r"\s{2,}", line.strip()) for line in output.splitlines()]
    assert re.search(r"0 added, 14 removed, 180 relabeled, 1\d moved between splits$", output.splitlines()[0])
    assert lines[1] == ["Classes: neun came; 9 went"]
    assert ["relabeled", "9 → neun", "180"] in [line[:3] for line in lines]
    assert any(line[:2] == ["moved", "val → test"] for line in lines)
    assert "324 images are in both test splits with the same class" in output


@pytest.mark.usefixtures("registered")
def test_json_is_all_of_it(darkroom, change_here):
    change_here(lambda row: None if row["split"] == "train" and row["class"] == "3" else row)
    code, output, _ = darkroom("data-diff", "here", "1", "--json")

    found = json.loads(output)
    assert code == 0
    assert found["a"]["name"] == "here"
    assert found["b"]["name"] == "version 1"
    assert found["a"]["fingerprint"] == found["b"]["fingerprint"]
    assert found["added"]["kinds"] == {"3": found["added"]["count"]}
    assert found["added"]["count"] == found["images"]["b"] - found["images"]["a"]
    assert len(found["added"]["examples"]) == 5


@pytest.mark.usefixtures("registered")
def test_the_same_images_preprocessed_otherwise_are_said_to_be_so(darkroom, evaluated):
    card = evaluated / "data" / "processed" / "digits" / "dataset.json"
    found = json.loads(card.read_text())
    card.write_text(json.dumps(found | {"fingerprint": "e" * 64}))

    _, output, _ = darkroom("data-diff")

    assert "The images, their classes and splits are the same: they are preprocessed otherwise" in output


def refused(result, pattern):
    code, output, errors = result
    assert (code, output, len(errors.splitlines())) == (2, "", 1)
    assert re.search(pattern, errors), errors


def test_a_model_without_a_list_of_its_images_is_refused(darkroom, registered, evaluated):
    for listed in list((evaluated / "mlruns").rglob("files.csv.gz")):
        listed.unlink()

    refused(darkroom("data-diff"), r"^error: version 1: the store has no list of its images; train it again to get one")


@pytest.mark.usefixtures("registered")
def test_a_dataset_that_is_not_here_is_refused(darkroom, evaluated):
    (evaluated / "data" / "processed" / "digits" / "dataset.json").unlink()

    refused(darkroom("data-diff"), r"dataset\.json: not found; run `darkroom preprocess` first")


@pytest.mark.usefixtures("registered")
def test_a_cache_whose_list_lacks_columns_is_refused(darkroom, change_here):
    change_here(lambda row: {key: row[key] for key in ("split", "row", "file")})

    refused(darkroom("data-diff"), r"files\.csv: not the list of a dataset's images")


def test_without_a_store_none_is_made(darkroom, project):
    root = project()
    (root / "mlflow.db").unlink()

    refused(darkroom("data-diff"), "no MLflow store at sqlite:")
    assert not (root / "mlflow.db").exists()
