"""`darkroom promote`, `rollback` and `history`: what they decide, record and say."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow.artifacts import download_artifacts
from tests.unit.promotion.conftest import NAME

from darkroom.cli import main as cli
from darkroom.evaluation.predictions import SplitPredictions
from darkroom.promotion import promote
from darkroom.promotion.aliases import change_champion, reconcile_aliases
from darkroom.promotion.evaluated_model import EvaluatedModel
from darkroom.promotion.history import Entry, History, Kind
from darkroom.utils.console import messages, output
from darkroom.utils.files import sha256

IMAGES = 400


@pytest.fixture
def right(monkeypatch, tmp_path):
    """How many of the test images each version answers rightly, as {version: count}; what was asked to be proven."""
    counts = {}

    def gather(client, contender, directory):
        labels = np.arange(IMAGES) % 2
        wrong = np.arange(IMAGES) >= counts[contender.version]
        answers = SplitPredictions(
            ("a", "b"), tuple(map(str, range(IMAGES))), labels, np.where(wrong, 1 - labels, labels),
            np.full(IMAGES, 0.9),
        )  # fmt: skip
        model = directory / str(contender.version)
        (model / "data").mkdir(parents=True)
        (model / "data" / "model.pt2").write_bytes(bytes(1000))
        return EvaluatedModel(contender, answers, "a fingerprint", (1, 2, 2), model, model)

    monkeypatch.setattr(promote, "load_evaluated_model", gather)
    return counts


@pytest.fixture
def registry(project, right, add, client):
    """Versions that answer as many images rightly as is given, of the model that params.yaml names."""

    def registry(*counts, **settings):
        project(tracking__registered_model=NAME, **settings)
        add(len(counts))
        right.update({str(number): count for number, count in enumerate(counts, start=1)})
        client.set_registered_model_alias(NAME, "challenger", str(len(counts)))
        return client

    return registry


@pytest.fixture
def crown(client):
    """Make versions champion, each in turn, without asking the gate."""

    def crown(*versions):
        for version in versions:
            entries, state = reconcile_aliases(client, NAME)
            entry = Entry(
                kind=Kind.PROMOTED, version=version, weights_sha256=f"weights of {version}", run_id="0" * 32,
                who="somebody", before=state.champion, champion=version, previous=state.champion,
            )  # fmt: skip
            change_champion(client, NAME, entry, entries)

    return crown


@pytest.fixture
def darkroom(capfd, monkeypatch):
    """Run a command as a person does; returns its exit code and what it printed."""
    for console in (output, messages):
        monkeypatch.setattr(console, "_width", 200)

    def darkroom(*arguments):
        monkeypatch.setattr("sys.argv", ["darkroom", *arguments])
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        said = capfd.readouterr()
        return code, said.out + said.err

    return darkroom


# --- promote -----------------------------------------------------------------------------------------------


def test_the_first_version_that_passes_becomes_champion(registry, darkroom, aliases):
    registry(350)
    code, said = darkroom("promote")

    assert code == 0
    assert "promote: a-model version 1 became champion, by" in said
    assert aliases() == {"challenger": "1", "champion": "1"}


def test_the_first_version_is_held_to_the_gate_as_well(registry, darkroom, aliases):
    registry(350, gate__min_accuracy=0.9)
    code, said = darkroom("promote")

    assert code == 3
    assert "version 1 was refused" in said
    assert "champion" not in aliases()


def test_a_better_challenger_becomes_champion_and_the_old_one_previous(registry, darkroom, crown, aliases):
    registry(300, 390)
    crown("1")
    code, said = darkroom("promote")

    assert code == 0
    assert "version 2 became champion instead of version 1" in said
    assert aliases() == {"challenger": "2", "champion": "2", "previous": "1"}


def test_a_challenger_that_is_no_better_is_refused_with_exit_code_3(registry, darkroom, crown, aliases):
    registry(390, 391)
    crown("1")
    code, said = darkroom("promote")

    assert code == 3
    assert "version 2 was refused, version 1 stays champion" in said
    assert aliases() == {"challenger": "2", "champion": "1"}


def test_a_challenger_of_other_data_is_told_what_to_do(registry, darkroom, crown, monkeypatch):
    registry(300, 390)
    crown("1")
    known = promote.load_evaluated_model
    of_other_data = lambda client, each, place: replace(known(client, each, place), fingerprint=str(each))  # noqa: E731
    monkeypatch.setattr(promote, "load_evaluated_model", of_other_data)
    code, said = darkroom("promote")

    assert code == 3
    assert "promote: the champion is a model of other data; `darkroom data-diff champion 2` shows what changed" in said
    assert "version 2 was refused" in said

    _, said = darkroom("promote", "--force", "--reason", "new pictures")
    assert "version 2 was made champion instead of version 1" in said
    assert "data-diff" not in said


def test_the_verdict_stands_on_the_version_as_tags_and_as_an_artifact_with_its_digest(registry, darkroom, crown):
    client = registry(390, 300)
    crown("1")
    darkroom("promote")

    tags = client.get_model_version(NAME, "2").tags
    assert tags["gate.verdict"].startswith("refused")
    assert tags["gate.better"].startswith("refused")
    entry = History(client, NAME).read()[-1]
    path = Path(download_artifacts(entry.evidence))
    assert sha256(path) == entry.evidence_sha256
    assert json.loads(path.read_text())["passed"] is False


def test_the_page_of_the_version_shows_the_rules_unless_somebody_has_described_it(registry, darkroom):
    client = registry(390, 300, 310)
    client.update_model_version(NAME, "2", "Test accuracy **0.75**, of 400 images")
    client.update_model_version(NAME, "3", "trained on a Friday")
    for version in "1223":
        darkroom("promote", version)

    shown = [client.get_model_version(NAME, version).description for version in "123"]
    assert shown[0].startswith("The gate: **passed**, against no champion")
    result, gate = shown[1].split("\n\n", 1)
    assert result == "Test accuracy **0.75**, of 400 images"
    assert gate.startswith("The gate: **refused**, against version 1, the champion")
    assert gate.count("The gate:") == 1
    assert "\n- better: " in shown[1]
    assert shown[2] == "trained on a Friday"


def test_a_dry_run_judges_but_changes_and_records_nothing(registry, darkroom, crown, aliases):
    client = registry(300, 390)
    crown("1")
    before = client.get_model_version(NAME, "2").tags
    code, said = darkroom("promote", "--dry-run")

    assert (code, aliases()["champion"]) == (0, "1")
    assert "(not done: --dry-run)" in said
    assert len(History(client, NAME).read()) == 1
    assert client.get_model_version(NAME, "2").tags == before


def test_a_dry_run_of_what_would_be_refused_ends_with_3(registry, darkroom, crown):
    client = registry(390, 300)
    crown("1")
    code, _ = darkroom("promote", "--dry-run")

    assert code == 3
    assert len(History(client, NAME).read()) == 1


def test_what_the_gate_refuses_can_be_forced_with_a_reason_that_is_recorded(registry, darkroom, crown, aliases):
    client = registry(390, 300)
    crown("1")
    code, _ = darkroom("promote", "--force", "--reason", "the old one leaks a label")

    assert (code, aliases()["champion"]) == (0, "2")
    entry = History(client, NAME).read()[-1]
    assert (entry.kind, entry.reason) == ("forced", "the old one leaks a label")


def test_force_does_not_make_a_promotion_out_of_one_that_passes(registry, darkroom, crown):
    client = registry(300, 390)
    crown("1")
    darkroom("promote", "--force", "--reason", "hurry")

    assert History(client, NAME).read()[-1].kind == "promoted"


@pytest.mark.parametrize("reason", [(), ("--reason", " ")])
def test_force_without_a_reason_is_refused(registry, darkroom, reason):
    client = registry(300)
    code, said = darkroom("promote", "--force", *reason)

    assert (code, said) == (2, "error: --force needs --reason: the history says why the gate was overruled\n")
    assert History(client, NAME).read() == []


def test_what_cannot_be_judged_is_refused_but_can_be_forced(registry, darkroom, monkeypatch, aliases):
    client = registry(300)

    def gather(*given):
        raise promote.TrackingError("version 1: predictions.csv is not the one that was registered")

    monkeypatch.setattr(promote, "load_evaluated_model", gather)
    assert darkroom("promote") == (2, "error: version 1: predictions.csv is not the one that was registered\n")
    assert History(client, NAME).read() == []

    code, said = darkroom("promote", "--force", "--reason", "known to be good")
    assert (code, aliases()["champion"]) == (0, "1")
    assert "predictions.csv is not the one" in said


def test_the_champion_is_not_promoted_again(registry, darkroom):
    client = registry(300)
    darkroom("promote")
    code, said = darkroom("promote")

    assert (code, said) == (0, "promote: a-model version 1 is champion already\n")
    assert len(History(client, NAME).read()) == 1


def changed(version):
    """What takes the place of ``gather`` where that version was changed in the store."""
    known = promote.load_evaluated_model

    def gather(client, contender, directory):
        if contender.version == version:
            raise promote.TrackingError(f"version {version}: model.pt2 is not the one that was registered")
        return known(client, contender, directory)

    return gather


def test_a_champion_that_was_changed_is_not_called_champion(registry, darkroom, monkeypatch):
    registry(300)
    darkroom("promote")
    monkeypatch.setattr(promote, "load_evaluated_model", changed("1"))
    assert darkroom("promote") == (2, "error: version 1: model.pt2 is not the one that was registered\n")


def test_a_champion_that_was_changed_is_no_hindrance_for_ever(registry, crown, darkroom, monkeypatch, aliases):
    registry(300, 300)
    crown("1")
    monkeypatch.setattr(promote, "load_evaluated_model", changed("1"))
    code, said = darkroom("promote")
    assert (code, aliases()["champion"]) == (2, "1")
    assert said == (
        "error: no champion to compare with: version 1: model.pt2 is not the one that was registered; else `darkroom "
        "promote --force --reason …` makes another version champion without a comparison\n"
    )
    code, said = darkroom("promote", "--force", "--reason", "the champion is lost")
    assert (code, aliases()["champion"]) == (0, "2")


def test_a_rollback_to_a_version_that_was_changed_is_refused(registry, crown, darkroom, monkeypatch, aliases):
    registry(300, 300)
    crown("1", "2")
    monkeypatch.setattr(promote, "load_evaluated_model", changed("1"))
    assert darkroom("rollback") == (2, "error: version 1: model.pt2 is not the one that was registered\n")
    assert aliases()["champion"] == "2"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("7", "error: 7: a-model has no such version or alias; choose from: 1, challenger, or give the id of a run"),
        ("best", "error: best: a-model has no such version or alias; choose from:"),
        ("models:/other/1", "error: models:/other/1: of the registered model other, but params.yaml names a-model"),
        ("f" * 32, f"error: run {'f' * 32}: not in the MLflow store"),
    ],
)
def test_a_version_that_there_is_not_is_refused(registry, darkroom, reference, said):
    client = registry(300)
    code, told = darkroom("promote", reference)

    assert code == 2
    assert told.startswith(said)
    assert told.count("\n") == 1
    assert History(client, NAME).read() == []


def test_a_champion_that_was_deleted_is_no_hindrance(registry, darkroom, crown, aliases):
    client = registry(390, 300)
    crown("1")
    client.delete_model_version(NAME, "1")
    code, _ = darkroom("promote")

    assert (code, aliases()["champion"]) == (0, "2")


# --- rollback ----------------------------------------------------------------------------------------------


def test_a_rollback_makes_the_previous_champion_champion(registry, darkroom, crown, aliases):
    client = registry(300, 350, 390)
    crown("1", "2", "3")
    code, said = darkroom("rollback", "--reason", "slow in production")

    assert code == 0
    assert "back to version 2 from version 3" in said
    assert aliases() == {"challenger": "3", "champion": "2", "previous": "1"}
    assert History(client, NAME).read()[-1].reason == "slow in production"


def test_two_rollbacks_go_back_two_champions_and_no_further(registry, darkroom, crown, aliases):
    registry(300, 350, 390)
    crown("1", "2", "3")
    darkroom("rollback")
    darkroom("rollback")

    assert aliases() == {"challenger": "3", "champion": "1"}
    code, said = darkroom("rollback")
    assert code == 2
    assert said.startswith("error: a-model: no previous champion to go back to;")


def test_without_a_champion_there_is_nothing_to_roll_back(registry, darkroom):
    registry(300)
    assert darkroom("rollback")[0] == 2


# --- history -----------------------------------------------------------------------------------------------


def test_the_history_shows_every_promotion_refusal_force_and_rollback(registry, darkroom):
    client = registry(350, 390, 300)
    for arguments in (["1"], ["2"], ["3"], ["3", "--force", "--reason", "a test"]):
        darkroom("promote", *arguments)
    darkroom("rollback")
    code, said = darkroom("history")

    assert code == 0
    for line in ("promoted: none → 1", "promoted: 1 → 2", "refused: 3", "forced: 2 → 3", "rolled back: 3 → 2"):
        assert line in said
    assert "a test" in said
    judged = [entry.evidence_sha256 for entry in History(client, NAME).read() if entry.kind != "rolled back"]
    assert all(len(digest) == 64 and digest[:12] in said for digest in judged)


def test_the_history_as_json_holds_every_field(registry, darkroom):
    registry(350)
    darkroom("promote")
    code, said = darkroom("history", "--json")

    found = json.loads(said)
    assert (code, found["model"]) == (0, NAME)
    assert found["entries"][0].keys() >= {"kind", "who", "when", "before", "version", "evidence_sha256", "digest"}
    assert found["entries"][0]["counts"] is True


def test_an_empty_history_is_told_and_makes_no_store(project, darkroom):
    root = project()
    (root / "mlflow.db").unlink()
    code, said = darkroom("history")

    assert (code, said) == (0, "darkroom-digits: no history yet; `darkroom promote` begins it\n")
    assert not (root / "mlflow.db").exists()


def test_a_changed_history_is_told_of(registry, darkroom):
    client = registry(350)
    darkroom("promote")
    client.set_model_version_tag(f"{NAME}-history", "1", "who", "somebody else")

    assert "warning: a-model-history: entry 1 was changed after it was written" in darkroom("history")[1]
