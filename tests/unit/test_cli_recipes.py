"""The command line of recipes."""

import json

import pytest
from tests.defaults import copy_recipes
from tests.unit.refusals import refused

from darkroom.config import load


@pytest.fixture
def with_recipes(project):
    """A project whose params.yaml was edited and is not in git, with the shipped recipes."""
    root = project(train__epochs=7)
    copy_recipes(root)
    return root


def test_recipes_are_listed_with_what_they_reach(darkroom, with_recipes):
    run = {"accuracy": 0.9, "train_seconds": 12}
    facts = {"device": "abacus", "threads": 2, "precision": "fp32"}
    entry = {"runs": [run, run], "conditions": facts, "changes": {}, "preparation_seconds": 1}
    counted = entry | {"runs": [run | {"accuracy": share, "images": 1_000} for share in (0.85, 0.95)]}
    measured = {"mnist-mlp": entry, "mnist-99": counted}
    (with_recipes / "recipes" / "measured.json").write_text(json.dumps(measured))
    code, output, _ = darkroom("recipe", "list")
    assert code == 0
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.strip()}
    assert rows["mnist-mlp"] == ["mnist", "mlp", "90.00", "±", "0.00", "2", "12"]
    # Wilson's for 900 of 1,000 images.
    assert rows["87.98-91.71"] == []
    assert rows["cifar10-best"] == ["cifar10", "fast-cnn", "not", "measured"]
    assert "on abacus, 2 threads, fp32" in output


def test_a_recipe_is_shown_as_it_is_used(darkroom, with_recipes):
    code, text, errors = darkroom("recipe", "show", "mnist-mlp")
    assert (code, errors) == (0, "")
    assert darkroom("recipe", "use", "mnist-mlp", "--force")[0] == 0
    assert (with_recipes / "params.yaml").read_text() == text


def test_using_a_recipe_asks_for_force_where_edits_would_be_lost(darkroom, with_recipes):
    refused(darkroom("recipe", "use", "mnist-mlp"), r"params\.yaml: has edits that are saved nowhere else; .*--force")
    assert load(with_recipes / "params.yaml").train.epochs == 7
    code, output, _ = darkroom("recipe", "use", "mnist-mlp", "--force")
    assert code == 0
    assert "params.yaml is now the recipe mnist-mlp" in output
    assert load(with_recipes / "params.yaml").recipe.name == "mnist-mlp"


def test_a_recipe_that_says_nothing_of_itself_is_used(darkroom, with_recipes):
    (with_recipes / "recipes" / "mine.yaml").write_text("train: {epochs: 8}\n")
    output = "params.yaml is now the recipe mine. Run `dvc repro`.\n"
    assert darkroom("recipe", "use", "mine", "--force") == (0, output, "")


@pytest.mark.parametrize("command", ["show", "use"])
def test_an_unknown_recipe_is_refused(darkroom, with_recipes, command):
    refused(darkroom("recipe", command, "mnist-mpl"), r"no recipe 'mnist-mpl'; did you mean 'mnist-mlp'")
