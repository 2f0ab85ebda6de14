"""`darkroom audit`: its files, what it prints, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import QUICK, Darkroom

from darkroom.data.cache import SPLITS, DatasetCard
from darkroom.utils.csv_files import read_csv

AUDIT = {**QUICK, "audit__folds": 2, "audit__epochs": 6, "train__lr": 0.01, "model__hidden": [32]}


@pytest.fixture(scope="session")
def audited_once(prepare_once: Callable[..., Path], evaluated_once: Path, write_params: Callable[..., None]) -> Path:
    """A project of digits whose images were audited."""

    def fill(root: Path) -> None:
        import os
        import shutil

        from darkroom.commands.audit import run
        from darkroom.config import load
        from darkroom.workspace import Workspace

        write_params(root, **AUDIT)
        for name in ("data/processed", "reports"):
            shutil.copytree(evaluated_once / name, root / name)
        before = Path.cwd()
        os.chdir(root)
        try:
            run(load(root / "params.yaml"), Workspace(), as_json=False)
        finally:
            os.chdir(before)

    return prepare_once("audited", fill)


def content(root: Path, name: str) -> dict:
    return json.loads((root / "reports" / "audit" / name).read_text(encoding="utf-8"))


def test_every_image_is_judged_once_the_least_believed_label_first(audited_once: Path) -> None:
    card = DatasetCard.read(audited_once / "data" / "processed" / "digits")
    rows = list(read_csv(audited_once / "reports" / "audit" / "out_of_fold.csv"))
    assert sorted((row["split"], int(row["row"])) for row in rows) == sorted(
        (split, row) for split in SPLITS for row in range(card.sizes[split])
    )
    believed = [float(row["probability_of_label"]) for row in rows]
    assert believed == sorted(believed)
    assert {row["fold"] for row in rows} == {"0", "1"}


def test_the_accuracy_is_that_of_the_table_with_its_interval(audited_once: Path) -> None:
    rows = list(read_csv(audited_once / "reports" / "audit" / "out_of_fold.csv"))
    found = content(audited_once, "metrics.json")
    right = np.mean([row["label"] == row["predicted"] for row in rows])
    assert found["accuracy"] == pytest.approx(right)
    assert found["accuracy_low"] < right < found["accuracy_high"]
    assert found["images"] == len(rows)
    assert found["suspected_labels"] == sum(row["suspect"] == "1" for row in rows)


def test_a_suspected_label_has_its_image_a_suggestion_and_neighbors_of_both_classes(audited_once: Path) -> None:
    card = DatasetCard.read(audited_once / "data" / "processed" / "digits")
    table = {(row["split"], int(row["row"])): row for row in read_csv(audited_once / "reports/audit/out_of_fold.csv")}
    labels = [each for each in content(audited_once, "findings.json")["findings"] if each["kind"] == "label"]
    assert len(labels) == content(audited_once, "metrics.json")["suspected_labels"] > 0
    for each in labels[:50]:
        own = table[each["image"]["split"], each["image"]["row"]]
        assert (own["label"], own["digest"]) == (each["label"], each["digest"])
        assert each["suggested"] in card.classes
        assert each["suggested"] != each["label"]
        beside = [table[image["split"], image["row"]] for image in each["neighbors"]]
        assert [one["label"] for one in beside] == [each["label"], each["suggested"], each["suggested"]]
        assert all(one["fold"] == own["fold"] for one in beside)


def test_the_page_shows_the_findings_with_the_name_of_the_dataset(audited_once: Path) -> None:
    page = (audited_once / "reports" / "audit" / "index.html").read_text(encoding="utf-8")
    assert '"dataset": "digits"' in page
    first = content(audited_once, "findings.json")["findings"][0]
    assert first["digest"] in page


def test_json_is_for_programs_and_a_second_audit_trains_nothing(
    audited_once: Path, tmp_path: Path, darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    shutil.copytree(audited_once, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setattr("darkroom.audit.out_of_fold.start_classifier", None)
    code, out, _ = darkroom("audit", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["metrics"] == content(audited_once, "metrics.json")
    assert found["findings"] == content(audited_once, "findings.json")["findings"]


def test_an_interruption_says_that_the_command_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from darkroom.audit.cross_validation import open_scratch

    def interrupted() -> None:
        with open_scratch(tmp_path / "models" / "key") as images:
            images.touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().err == "interrupted; the same command resumes\n"
    assert list(tmp_path.rglob("*")) == [tmp_path / "models", tmp_path / "models" / "key"]


def test_without_preprocessed_images_it_says_what_to_run(project: Callable[..., Path], darkroom: Darkroom) -> None:
    root = project(**AUDIT)
    code, _, err = darkroom("audit")
    assert code == 2
    assert "darkroom preprocess" in err
    assert not (root / "reports" / "audit").exists()
    assert not (root / "models").exists()


def test_two_outputs_at_once_are_refused(project: Callable[..., Path], darkroom: Darkroom) -> None:
    project(**AUDIT)
    code, _, err = darkroom("audit", "--json", "--effect")
    assert code == 2
    assert "give one of them" in err
