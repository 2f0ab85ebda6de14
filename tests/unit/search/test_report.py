"""What a search leaves behind is complete, and says what it is worth."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from tests.unit.search.fakes import COMPLETE, FAIL, MIXED, TWO, study_of, trial

from darkroom.config import Config, parse
from darkroom.errors import SearchError
from darkroom.search import report
from darkroom.search.repeats import Candidate
from darkroom.search.significance import SeedComparison, compare_seeds

SPACE = {
    "train": {"lr": {"low": 1e-4, "high": 0.1, "log": True}, "batch_size": {"choices": [32, 64, 128]}},
    "model": {"hidden": {"choices": [[128], [256, 128]]}},
}
ENDING = "all trials have run (search.trials: 5)"


def config(**search: Any) -> Config:
    return parse({"model": {"name": "mlp"}, "search": {"trials": 5, "space": SPACE, **search}}, where="")


WINNER = Candidate("trial 3", 3, {"train.lr": 0.02, "model.hidden": [256, 128]}, (0.95, 0.96, 0.97), ())
START = Candidate("starting point", None, {}, (0.90, 0.91, 0.92), ())
NONE = compare_seeds([], "accuracy")


def write(
    directory: Path, study: optuna.Study, comparison: SeedComparison, settings: Config | None = None
) -> tuple[dict[str, Any], str]:
    settings = settings or config()
    found = report.result(study, settings, "f" * 64, comparison)
    report.write(directory, study, settings, found, comparison, ENDING)
    return json.loads((directory / "summary.json").read_text()), (directory / "report.md").read_text()


@pytest.mark.usefixtures("drawn")
def test_everything_lies_in_the_directory(tmp_path: Path) -> None:
    write(tmp_path, study_of(MIXED), compare_seeds([WINNER, START], "accuracy"))

    pictures = {"repeats", "history", "curves", "importances", "slices", "parallel_coordinates"}
    expected = {"summary.json", "trials.csv", "report.md", *(f"{name}.png" for name in pictures)}
    assert {path.name for path in tmp_path.iterdir()} == expected


def test_the_page_shows_every_picture_that_is_there(tmp_path: Path) -> None:
    _, page = write(tmp_path, study_of(MIXED), NONE)

    shown = {line.partition("(")[2].rstrip(")") for line in page.splitlines() if line.startswith("![")}
    assert shown == {path.name for path in tmp_path.glob("*.png")}


def test_the_result_is_that_of_the_best_mean(tmp_path: Path) -> None:
    found, page = write(tmp_path, study_of(MIXED), compare_seeds([WINNER, START], "accuracy"))

    assert found["params"] == {"train.lr": 0.02, "model.hidden": [256, 128]}
    assert (found["value"], found["trial"], found["monitor"]) == (pytest.approx(0.96), 3, "accuracy")
    assert found["evidence"]["gain"]["exceeds_noise"] is True
    assert page.splitlines()[2].startswith("Trial 3 has the best mean validation accuracy, 0.9600 over 3 seeds.")
    assert "| **trial 3** | 0.9600 ± 0.0100 | 3 |  |" in page
    assert "| starting point | 0.9100 ± 0.0100 | 3 |  |" in page
    assert "more than seed noise" in page
    assert "| `train.lr` | 0.001 | 0.02 |" in page
    assert "| `model.hidden` | [256, 128] | [256, 128] |" in page


def test_where_the_starting_point_wins_no_setting_changes(tmp_path: Path) -> None:
    best = Candidate("starting point", None, {}, (0.99, 0.98), ())
    found, page = write(tmp_path, study_of(MIXED), compare_seeds([WINNER, best], "accuracy"))

    assert (found["params"], found["trial"]) == ({}, None)
    assert "| `train.lr` | 0.001 | as written |" in page
    assert "the settings stay as written" in page


def test_where_nothing_was_trained_again_the_best_trial_counts(tmp_path: Path) -> None:
    found, page = write(tmp_path, study_of(MIXED), NONE)

    assert (found["trial"], found["value"]) == (3, 0.9)
    assert found["params"]["model.hidden"] == [128]  # a list again, as params.yaml has it
    assert page.splitlines()[2] == (
        "Trial 3 has the best validation accuracy, 0.9000. No configuration was trained again with other seeds: its "
        "lead may be luck."
    )


def test_where_every_candidate_failed_the_best_trial_counts(tmp_path: Path) -> None:
    failed = Candidate("trial 3", 3, {}, (), ("a | bar",))
    found, page = write(tmp_path, study_of(MIXED), compare_seeds([failed], "accuracy"))

    assert found["trial"] == 3
    assert r"| trial 3 | none | 0 | a \| bar |" in page


def test_the_page_tells_the_states_the_first_failure_and_why_the_search_ended(tmp_path: Path) -> None:
    study = study_of([*MIXED, trial(COMPLETE, 0.9, duplicate_of=3)], interrupted=(4,))
    found, page = write(tmp_path, study, NONE)

    assert found["states"] == {"failed": 1, "complete": 3, "pruned": 1, "interrupted": 1, "duplicate": 1}
    assert found["trials"] == 5
    assert "1 failed, 3 complete, 1 pruned, 1 interrupted, 1 duplicate, in the study small-mlp-0." in page
    assert f"The search ended: {ENDING}." in page
    assert "The first that failed: too high." in page


@pytest.mark.usefixtures("drawn")
def test_of_two_objectives_the_front_is_told(tmp_path: Path) -> None:
    settings = config(second_objective="parameters", pruner="none")
    found, page = write(tmp_path, study_of(TWO["some"], "maximize", "minimize"), NONE, settings)

    assert [(each["trial"], each["values"]) for each in found["front"]] == [(3, [0.95, 1e5]), (0, [0.9, 1e3])]
    assert "| 3 | 0.9500 | 100,000 |" in page
    assert (tmp_path / "pareto_front.png").is_file()


def test_the_page_fits_into_mlflows_description() -> None:
    candidates = [Candidate(f"trial {number}", number, {}, (0.9, 0.8), ("reason " * 9,)) for number in range(100)]
    comparison = compare_seeds([*candidates, WINNER, START], "accuracy")
    study = study_of(MIXED)
    page = report.page(study, config(), report.result(study, config(), "f", comparison), comparison, ENDING)

    assert len(page) < 8000
    assert "and 87 more" in page
    assert "**trial 3**" in page


def test_a_study_without_a_complete_trial_has_no_result() -> None:
    study = study_of([trial(FAIL, failure="too high")])

    with pytest.raises(SearchError, match="the first failed with: too high"):
        report.result(study, config(), "f", NONE)
