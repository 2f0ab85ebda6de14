"""Files that a person has edited, or a disk has damaged, are refused in a line that names them and what makes them."""

import contextlib
import copy
import json
import random
import re
from pathlib import Path

import pytest

from darkroom.commands import results
from darkroom.config import load
from darkroom.data.cache import DatasetCard
from darkroom.errors import DarkroomError
from darkroom.evaluation.reference import Reference
from darkroom.models.files import load_classifier
from darkroom.workspace import Workspace

# Which command reads a file, and is quick to refuse it.
READ_BY = {
    "data/processed/digits/dataset.json": "train",
    "models/search/best_params.json": "train",
    "models/model.json": "evaluate",
    "reports/evaluate/metrics.json": "results",
    "reports/evaluate/identity.json": "register",
}
DAMAGES = [
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"null",
    b"[1]",
    b"{}",
    b'{"a": NaN}',
    b"[" * 100_000,
    b'{"a": 1' + b"0" * 5000 + b"}",
]
VALUES = [None, [], {}, [[1]], "", "x", -1, 0, 1e308, 10**400, True]


@pytest.fixture
def refused(evaluated, darkroom):
    """Whether the command that reads a file refuses it; gives its message, and checks that this is of use."""

    def run(name):
        code, _, errors = darkroom(READ_BY[name])
        said = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert code in (0, 2), errors
        if code:
            (line,) = said
            assert re.search(r"`(darkroom|dvc) \w+`", line), line
            assert name in line, line
        return code == 2

    return run


@pytest.mark.parametrize("name", READ_BY)
def test_what_is_no_json_object_of_ours_is_refused(refused, evaluated, name):
    for content in DAMAGES:
        (evaluated / name).write_bytes(content)

        assert refused(name), content[:20]


@pytest.mark.parametrize("name", READ_BY)
def test_a_directory_in_its_place_is_refused(refused, evaluated, name):
    (evaluated / name).unlink()
    (evaluated / name).mkdir()

    assert refused(name)


@pytest.mark.parametrize("stage", ["download", "preprocess", "search", "train", "evaluate", "register"])
@pytest.mark.parametrize(
    ("name", "is_directory"),
    [
        ("models/model.safetensors", True),
        ("models/model.json", True),
        ("models/search/best_params.json", True),
        ("models/checkpoints/train.pt", True),
        ("models/checkpoints", False),
        ("reports/train", False),
        ("reports", False),
        ("data/processed", False),
    ],
)
def test_a_stage_refuses_what_it_could_not_write_over_before_it_works(project, darkroom, stage, name, is_directory):
    place = project() / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir() if is_directory else place.touch()

    code, output, errors = darkroom(stage)

    kind = "directory" if is_directory else "file"
    assert (code, output) == (2, "")
    assert errors == f"error: {name}: a {kind}; remove it and run `dvc repro` again\n"


@pytest.mark.parametrize("value", ['"high"', "true", "null", "[0.5]", "1e17"])
def test_a_figure_that_is_no_number_is_refused(darkroom, evaluated, value):
    path = evaluated / "reports" / "evaluate" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"log_loss": json.loads(value)}))

    code, _, errors = darkroom("results")

    said = "reports/evaluate/metrics.json: damaged (log_loss: expected a number); run `darkroom evaluate` again"
    assert (code, errors) == (2, f"error: {said}\n")


def test_results_of_another_model_are_refused(darkroom, evaluated):
    card = evaluated / "models" / "model.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"weights_sha256": "0" * 64}))

    code, output, errors = darkroom("results")

    assert (code, output) == (2, "")
    said = "reports/evaluate: an evaluation of other weights than models/ holds; run `darkroom evaluate` again"
    assert errors == f"error: {said}\n"


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("data/processed/digits/dataset.json", lambda: DatasetCard.read(Path("data/processed/digits"))),
        ("models/model.json", lambda: load_classifier(Path("models/model.safetensors"), Path("models/model.json"))),
        ("reports/evaluate/reference.json", lambda: Reference.read(Path("reports/evaluate/reference.json"))),
        ("reports/evaluate/metrics.json", lambda: results.run(load(Workspace().params), Workspace(), as_json=False)),
    ],
)
def test_whatever_value_is_changed_it_is_taken_or_refused(evaluated, name, read, long):
    written = json.loads((evaluated / name).read_text())
    generator = random.Random(name)
    places = list(below(written))
    for _ in range(2000 if long else 60):
        changed = copy.deepcopy(written)
        *above, key = generator.choice(places)
        parent = changed
        for part in above:
            parent = parent[part]
        if generator.random() < 0.2:
            del parent[key]
        else:
            parent[key] = generator.choice(VALUES)
        (evaluated / name).write_text(json.dumps(changed))

        with contextlib.suppress(DarkroomError):
            read()


def below(value, place=()):
    """The place of each value in a tree of JSON."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*place, key)
        yield from below(inner, (*place, key))


@pytest.mark.parametrize("key", ["dataset.path", "tracking.experiment", "train.epochs", "model.name", "nonsense"])
def test_a_search_result_decides_only_what_a_search_may_vary(evaluated, darkroom, key):
    path = evaluated / "models" / "search" / "best_params.json"
    path.write_text(json.dumps({"params": {"train.lr": 0.1, key: "other"}}))

    code, _, errors = darkroom("train")

    assert code == 2
    assert f"models/search/best_params.json: {key}: no setting that a search varies; set it in params.yaml" in errors


def test_a_search_result_of_a_wrong_value_is_refused_as_a_setting_is(evaluated, darkroom):
    path = evaluated / "models" / "search" / "best_params.json"
    path.write_text(json.dumps({"params": {"train.lr": -1}}))

    code, _, errors = darkroom("train")

    assert code == 2
    assert re.search(
        r"^error: models/search/best_params\.json: damaged \(train\.lr: expected greater than 0, got -1\); "
        r"run `darkroom search` again$",
        errors.strip(),
    )


@pytest.mark.parametrize("line", ['{"op_code": 99}', '{"op_code": 0}', "null", "[]", '"x"', "{}", "x"])
def test_a_journal_that_cannot_be_replayed_is_refused(evaluated, darkroom, line):
    journal = evaluated / "models" / "checkpoints" / "study.journal"
    journal.parent.mkdir(exist_ok=True)
    journal.write_text(f"{line}\n{line}\n")

    code, _, errors = darkroom("trials")

    assert code == 2
    assert re.search(r"^error: models/checkpoints/study\.journal: damaged \(.*\); delete it to", errors.strip())
    assert len(errors.strip().splitlines()) == 1
