"""A table tells what became of each trial, and looking changes nothing."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from rich.console import Console
from tests.unit.search.fakes import COMPLETE, FAIL, MIXED, ONE, PRUNED, TWO, study_of, trial

from darkroom.config import Config, parse
from darkroom.errors import SearchError
from darkroom.search import table
from darkroom.search.readonly import latest_study
from darkroom.utils.process_id import this_process


def config(storage: str | None = None) -> Config:
    return parse({"search": {"storage": storage}}, where="")


def journal_of(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path)))


def told(study: optuna.Study) -> list[str]:
    return [row.outcome for row in table.rows(study)]


def printed(study: optuna.Study, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), soft_wrap=True)
    table.show(study, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_each_state_is_told() -> None:
    study = study_of(
        [
            trial(FAIL, failure="too high"),
            trial(COMPLETE, 0.9),
            trial(PRUNED, 0.4, curve={1: 0.3, 2: 0.4}),
            trial(FAIL),
            trial(COMPLETE, 0.9, duplicate_of=1),
            trial(COMPLETE, 0.8, again=3),
            trial(FAIL, failure="too high", duplicate_of=0),
        ],
        interrupted=(3,),
    )

    assert told(study) == [
        "failed: too high",
        "complete",
        "pruned after epoch 2",
        "interrupted",
        "complete (duplicate of 1)",
        "complete (again, for 3)",
        "failed: too high (duplicate of 0)",
    ]


def test_a_running_trial_whose_search_has_ended_was_interrupted() -> None:
    study = study_of([])
    host, _, _ = this_process().rsplit(":", 2)
    for owner in (None, this_process(), f"{host}:1:0", "elsewhere:1:0"):
        asked = study.ask(ONE)
        if owner:
            asked.set_user_attr("owner", owner)

    assert told(study) == ["running", "running", "interrupted", "running"]


def test_a_trial_that_waits_shows_what_it_will_try() -> None:
    study = study_of([])
    study.enqueue_trial({"train.lr": 0.5})

    (row,) = table.rows(study)
    assert (row.state, row.settings, row.seconds, row.is_best) == ("waiting", {"train.lr": 0.5}, None, False)


@pytest.mark.parametrize(("direction", "best"), [("maximize", 3), ("minimize", 1)])
def test_the_best_trial_is_marked(direction: str, best: int) -> None:
    study = study_of(MIXED, direction)

    assert [row.number for row in table.rows(study) if row.is_best] == [best]
    assert printed(study, 200).count("best single value") == 1


def test_of_two_objectives_the_front_is_marked() -> None:
    study = study_of(TWO["some"], "maximize", "minimize")

    assert [row.number for row in table.rows(study) if row.is_best] == [0, 3]
    assert printed(study, 200).count("on the front") == 2


def test_no_trial_is_the_best_where_none_is_complete() -> None:
    assert not any(row.is_best for row in table.rows(study_of([trial(FAIL), trial(PRUNED, 0.4)])))


def test_where_there_is_room_each_setting_has_a_column() -> None:
    assert "augment.mixup" in printed(study_of(MIXED), 200)


@pytest.mark.parametrize("width", [70, 80, 100])
def test_where_there_is_none_the_settings_share_one_and_nothing_is_cut_off(width: int) -> None:
    lines = printed(study_of([*MIXED, trial(FAIL, failure="a long reason " * 9)]), width).splitlines()

    assert max(len(line) for line in lines) <= width
    assert "settings" in lines[1]
    assert "…" not in "".join(lines).replace("[512", "")
    assert lines[-1] == "small-mlp-0: 3 failed, 2 complete, 1 pruned."


def test_a_study_without_trials_says_so() -> None:
    assert "no trial yet" in printed(study_of([]), 80)


def test_the_csv_has_a_line_for_each_trial() -> None:
    target = io.StringIO()
    table.write_csv(study_of(MIXED, interrupted=(4,)), target)

    lines = list(csv.DictReader(io.StringIO(target.getvalue())))
    assert [line["state"] for line in lines] == ["failed", "complete", "pruned", "complete", "interrupted"]
    assert [line["value"] for line in lines] == ["", "0.5", "0.4", "0.9", ""]
    assert (lines[0]["note"], lines[2]["note"], lines[1]["seconds"]) == ("too high", "after epoch 2", "2.0")
    assert lines[1]["model.hidden"] == "[128]"


def test_the_csv_of_two_objectives_has_both() -> None:
    target = io.StringIO()
    table.write_csv(study_of(TWO["some"], "maximize", "minimize"), target)

    lines = list(csv.DictReader(io.StringIO(target.getvalue())))
    assert [(line["value"], line["cost"]) for line in lines] == [
        ("0.9", "1000.0"),
        ("", ""),
        ("0.8", "100000.0"),
        ("0.95", "100000.0"),
    ]


def test_the_json_has_every_trial_in_full() -> None:
    found = json.loads(json.dumps(table.as_json(study_of(MIXED)), allow_nan=False))

    assert (found["study"], found["directions"]) == ("small-mlp-0", ["maximize"])
    assert found["trials"][3]["values"] == [0.9]
    assert found["trials"][3]["best"] is True
    assert found["trials"][3]["settings"]["train.batch_size"] == 32
    assert found["trials"][0]["note"] == "too high"


def test_the_study_that_was_opened_last_is_shown(tmp_path: Path) -> None:
    storage = journal_of(tmp_path / "journal")
    for name, day in (("first", 1), ("latest", 3), ("second", 2)):
        study_of([], storage=storage, name=name).set_user_attr("opened", f"2026-01-0{day}")
    optuna.create_study(storage=storage, study_name="latest-repeats")  # which no search opens by itself

    assert latest_study(config(), tmp_path / "journal").study_name == "latest"


def test_looking_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    study_of([], storage=journal_of(path)).ask(ONE)
    with path.open("ab") as opened:
        opened.write(b'{"op_code":5,"wor')  # a running search is writing this line
    before = path.read_bytes()

    rows = table.rows(latest_study(config(), path))

    assert [row.state for row in rows] == ["running"]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_journal_there_is_no_study_and_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"journal: no study yet; `darkroom search` makes one$"):
        latest_study(config(), tmp_path / "checkpoints" / "journal")

    assert list(tmp_path.iterdir()) == []


def test_a_journal_without_a_study_has_none(tmp_path: Path) -> None:
    (tmp_path / "journal").touch()

    with pytest.raises(SearchError, match="no study yet"):
        latest_study(config(), tmp_path / "journal")


def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b"{damaged\n{}\n")

    with pytest.raises(SearchError, match=r"journal: damaged \(.*; delete it"):
        latest_study(config(), tmp_path / "journal")


def test_a_database_is_read(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'studies.db'}"
    study = study_of([trial(COMPLETE, 0.9)], storage=RDBStorage(address))
    assert study.trials[0].state is TrialState.COMPLETE

    found = latest_study(config(address), tmp_path / "journal")

    assert told(found) == ["complete"]
    for storage in (study._storage, found._storage):
        storage.remove_session()


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"^search\.storage: sqlite:///.*studies\.db: no study yet"):
        latest_study(config(f"sqlite:///{tmp_path / 'studies.db'}"), tmp_path / "journal")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["postgresql://someone:secret@127.0.0.1:9/none", "nonsense", "noengine://here"])
def test_a_database_that_cannot_be_read_is_named_without_its_password(tmp_path: Path, address: str) -> None:
    with pytest.raises(SearchError, match=r"^search\.storage: .* cannot be read \(.*\); start the server") as refused:
        latest_study(config(address), tmp_path / "journal")

    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_looking_starts_light() -> None:
    code = "import sys, darkroom.search.table; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "optuna" in loaded
    assert not {"torch", "mlflow", "sqlalchemy", "matplotlib", "sklearn"} & set(loaded)
