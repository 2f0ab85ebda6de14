"""A model that DVC restores, from its run cache or another checkout, is what the registry of this store says of it."""

import json
import shutil

import pytest
from tests.clone import Clone
from tests.conftest import QUICK
from tests.pipeline.walk import NAME, Walk


def registered(walk: Walk) -> tuple[str, list[str]] | None:
    found = json.loads(walk.darkroom("results", "--json").output)["registered"]
    return (found["version"], found["aliases"]) if found else None


def train_with(walk: Walk, seed: int) -> str:
    """What is said by `dvc repro` with this seed."""
    walk.train_with(seed)
    walk.said.clear()
    assert walk.dvc("repro")[0] == 0
    return "\n".join(walk.said)


@pytest.fixture(scope="module")
def first(make_clone, tmp_path_factory) -> Walk:
    """A project in which two models were trained and registered."""
    walk = Walk(make_clone(tmp_path_factory.mktemp("first"), **QUICK), seed=0)
    assert "registered as darkroom-digits version 1 (challenger, champion)" in train_with(walk, 1)
    assert "registered as darkroom-digits version 2 (challenger)" in train_with(walk, 2)
    return walk


@pytest.fixture(scope="module")
def back(first: Walk) -> str:
    """What is said when the first one's settings are back."""
    said = train_with(first, 1)
    first.commit()
    return said


@pytest.fixture
def second(first: Walk, back: str, tmp_path) -> Walk:
    """Another checkout of the project, with a store of its own and the first one's DVC cache."""
    root = tmp_path / "second"
    first.git("clone", "--quiet", str(first.root), str(root))
    (root / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {first.root / '.dvc' / 'cache'}\n")
    return Walk(Clone(root, tmp_path / "network.log"), seed=0)


def test_settings_that_are_back_bring_their_version_back_as_challenger(first, back):
    assert "darkroom train" not in back  # DVC has restored it
    assert f"already registered as {NAME} version 1 (challenger, champion)" in back
    assert registered(first) == ("1", ["challenger", "champion"])


def test_a_model_of_another_checkout_is_registered_in_this_store_and_no_other_is_taken_for_it(
    first, second, empty_store
):
    shutil.copyfile(empty_store, second.root / "mlflow.db")
    second.dvc("checkout")
    assert registered(second) is None
    refused = second.darkroom("promote", "here")
    assert (refused.code, "not registered as darkroom-digits in this store" in refused.errors) == (2, True)

    # Its stages are restored from the run cache of the first checkout.
    assert second.dvc("exp", "run", "-S", "train.seed=2")[0] == 0
    assert "darkroom train" not in "\n".join(second.said)
    assert registered(second) == ("1", ["challenger", "champion"])
    assert registered(first) == ("1", ["challenger", "champion"])


def test_a_new_machine_has_nothing_to_run_and_is_told_to_register(second):
    second.dvc("checkout")
    code, _ = second.dvc("repro")
    assert (code, [line for line in second.said if line.startswith("  ")]) == (0, [])
    assert not (second.root / "mlflow.db").exists()
    told = second.darkroom("results")
    assert "Registered as" not in told.output
    assert "`darkroom register` registers it" in told.errors
    picture = str(next((second.root / "reports" / "evaluate" / "gallery").glob("*.png")))
    for command in (("predict", picture), ("promote",), ("compare",)):
        ended = second.darkroom(*command)
        assert (ended.code, "`darkroom register`" in ended.errors) == (2, True)
    assert "registered as darkroom-digits version 1 (challenger, champion)" in second.darkroom("register").errors
    assert second.darkroom("predict", picture).code == 0
    assert registered(second) == ("1", ["challenger", "champion"])
