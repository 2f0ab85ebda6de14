"""What a run says of its training comes back as it was; a run that is no finished training is refused."""

import json
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.errors import TrackingError
from darkroom.promotion.training_run import _value, read_training_run
from darkroom.tracking.runs import FINGERPRINT_TAG, WEIGHTS_TAG, _text

SETTINGS = {
    "dataset": {"name": "digits", "on_broken": "stop"},
    "preprocess": {"image_size": [8, 8], "channels": None, "val_fraction": 0.1, "seed": 0},
    "model": {"name": "mlp", "hidden": [8], "dropout": 0.0},
    "train": {"epochs": 2, "seed": 0, "lr": 1e-05, "deterministic": False, "compile": "none", "clip_norm": None},
}
ENDED = {WEIGHTS_TAG: "a" * 64, FINGERPRINT_TAG: "b" * 64}


@pytest.fixture
def train(store):
    """A run of a training, or of another kind; gives its id."""

    def train(kind="train", tags=ENDED, problem=None, settings=SETTINGS):
        ending = pytest.raises(type(problem)) if problem else nullcontext()
        with ending, store.start("a run", kind) as run:
            if problem:
                raise problem
            run.log_params({f"{part}.{key}": value for part, keys in settings.items() for key, value in keys.items()})
            run.log_tags(tags)
            run.log_metrics({"best/val_loss": 0.1 + 0.2})
        return store.client.search_runs([store.experiment_id])[0].info.run_id

    return train


def refused(client, run_id, pattern):
    with pytest.raises(TrackingError, match=pattern) as raised:
        read_training_run(client, run_id)
    assert "\n" not in str(raised.value)


def test_settings_figures_and_digests_come_back_as_they_were(client, train):
    found = read_training_run(client, train(tags=ENDED | {"system.threads": 2}))
    assert found.settings == SETTINGS
    assert found.metrics["best/val_loss"] == 0.1 + 0.2
    assert (found.weights_sha256, found.fingerprint) == ("a" * 64, "b" * 64)
    assert found.environment == {"system.threads": "2"}


@given(st.floats(allow_nan=False) | st.integers() | st.booleans() | st.none() | st.lists(st.integers()))
def test_a_setting_comes_back_from_its_param(value):
    assert _value(_text(value)) == value


@pytest.mark.parametrize("word", ["none", "one-cycle", "resnet18", "~/weights.pth", "a b", "True", "nan.pth"])
def test_a_word_comes_back_from_its_param(word):
    assert _value(_text(word)) == word


@pytest.mark.parametrize("dirty", [True, False])
def test_the_code_is_told_by_commit_and_whether_the_tree_was_dirty(client, train, dirty):
    tags = ENDED | {"mlflow.source.git.commit": "c" * 40, "darkroom.git_dirty": json.dumps(dirty)}
    found = read_training_run(client, train(tags=tags))
    assert (found.commit, found.was_dirty) == ("c" * 40, dirty)


@pytest.mark.parametrize("text", ["", "--remote=elsewhere", "HEAD", "c" * 39])
def test_what_is_no_commit_is_not_taken_for_one(client, train, text):
    run_id = train(tags=ENDED | {"mlflow.source.git.commit": text})
    assert read_training_run(client, run_id).commit is None


@pytest.mark.parametrize("part", ["dataset", "model", "train"])
def test_a_training_without_all_its_settings_is_refused(client, train, part):
    run_id = train(settings={key: SETTINGS[key] for key in SETTINGS if key != part})
    refused(client, run_id, rf"has no param {part}\.\w+: its settings are not all there")


def test_a_run_that_the_store_lacks_is_refused(client):
    refused(client, "0" * 32, r"run 0{32}: not in the MLflow store")
    refused(client, "champion", r"run champion: not in the MLflow store")


@pytest.mark.parametrize("kind", ["search", "trial", "repeat"])
def test_a_run_that_is_no_training_is_refused(client, train, kind):
    refused(client, train(kind), f"a {kind} run; only what `darkroom train` trained can be reproduced")


def test_a_run_of_another_program_is_refused(client):
    refused(client, client.create_run("0").info.run_id, "a foreign run; only what `darkroom train` trained")


@pytest.mark.parametrize(
    ("problem", "status"), [(RuntimeError("the loss is nan"), "FAILED"), (KeyboardInterrupt("Ctrl-C"), "KILLED")]
)
def test_a_training_that_did_not_end_well_is_refused_with_the_reason(client, train, problem, status):
    refused(client, train(problem=problem), rf"is {status} \({problem}\), so it has no result to reproduce")


def test_a_training_that_still_runs_is_refused(client, store):
    store.start("a run", "train")
    refused(client, client.search_runs([store.experiment_id])[0].info.run_id, "is RUNNING, so it has no result")


@pytest.mark.parametrize("tag", ENDED)
def test_a_training_without_digests_is_refused(client, train, tag):
    refused(client, train(tags={key: ENDED[key] for key in ENDED if key != tag}), f"has no tag {tag}")
