"""The doctor finds what does not agree, names the command that helps, and changes nothing unless it is told to."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from tests import defaults
from tests.conftest import QUICK

from darkroom.commands.doctor import pipeline
from darkroom.commands.params.__main__ import main as write_all_settings
from darkroom.config import load
from darkroom.promotion.registry import MODEL_FILE
from darkroom.tracking.spool import Spool
from darkroom.utils.scratch import SUFFIX
from darkroom.workspace import Workspace

pytestmark = pytest.mark.slow  # what DVC says is printed by a process
NAME = "darkroom-digits"
RUN = "a" * 32
GONE = f"{socket.gethostname()}:999999999:1"


@pytest.fixture
def dvc(monkeypatch):
    """Lets `dvc status` say something, at first that nothing has changed."""

    def say(answer="{}", code=0, complaint=""):
        command = f"import sys; print({answer!r}); print({complaint!r}, file=sys.stderr); sys.exit({code})"
        monkeypatch.setattr(
            pipeline,
            "start",
            lambda workspace: subprocess.Popen(
                [sys.executable, "-ISc", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ),
        )

    say()
    return say


@pytest.fixture
def doctor(dvc, darkroom, monkeypatch):
    """Ask the doctor; gives the lines that are wrong, each in one line, after checking that the exit code fits."""
    monkeypatch.setattr("darkroom.utils.console.output._width", 1000)

    def ask(*options):
        code, output, errors = darkroom("doctor", *options)
        assert errors == "" or options, errors
        lines = [line.removeprefix("wrong ").strip() for line in output.splitlines() if line.startswith("wrong ")]
        assert code == (3 if lines else 0)
        return lines

    return ask


def find(lines, area, *parts):
    """The one line that is wrong, which must be of this area and hold these parts."""
    (line,) = lines
    assert line.startswith(area)
    for part in parts:
        assert part in line
    return line


# --- a healthy project ------------------------------------------------------------------------------------


def test_a_healthy_project_has_nothing_wrong(registered, doctor, evaluated):
    before = {path: path.stat().st_mtime_ns for path in evaluated.rglob("*") if path.is_file()}
    assert doctor() == []
    assert {path: path.stat().st_mtime_ns for path in evaluated.rglob("*") if path.is_file()} == before


def test_a_fresh_clone_has_nothing_wrong_and_no_store_is_made(project, doctor):
    root = project(**QUICK)
    (root / "mlflow.db").unlink()
    assert doctor() == []
    assert not (root / "mlflow.db").exists()


def test_a_deleted_run_takes_nothing_from_a_champion(registered, doctor):
    registered[0].delete_run(registered[1].run_id)
    assert doctor() == []


# --- files ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("registered")
def test_weights_that_were_changed_are_found(doctor, evaluated):
    weights = evaluated / "models" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    for line in doctor():
        assert "not the weights that models/model.json describes, or damaged; run `darkroom train` again" in line


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("models/model.json", "[]", "models/model.json: expected a JSON object; run `darkroom train` again"),
        ("reports/evaluate/predictions.csv", "", "predictions.csv: changed since it was written; run `darkroom evalu"),
        (
            "reports/evaluate/identity.json",
            "{}",
            "identity.json: damaged (weights_sha256: field required)",
        ),
        ("data/processed/digits/dataset.json", "{", "dataset.json: damaged"),
        ("reports/evaluate/metrics.json", "{}", "metrics.json: lacks accuracy, "),
        ("reports/evaluate/metrics.json", '{"accuracy": 0.', "metrics.json: damaged"),
        ("models/search/best_params.json", "xx{", "models/search/best_params.json: damaged"),
        ("models/search/best_params.json", '{"params": {"dataset.path": "x"}}', "dataset.path: no setting that a sear"),
    ],
)
def test_a_damaged_file_is_found(doctor, evaluated, name, content, said):
    (evaluated / name).write_text(content)
    assert any(said in line for line in doctor())


@pytest.mark.usefixtures("registered")
def test_temporary_files_of_killed_processes_are_found_and_removed(doctor, evaluated):
    owner = GONE.replace(":", "~")
    left = [evaluated / f".darkroom.{owner}.ab{SUFFIX}", evaluated / "reports" / f".darkroom.{owner}.cd{SUFFIX}"]
    left[0].write_text("half a file")
    left[1].mkdir()
    lines = doctor()
    assert [line.partition(";")[0].split(": ")[-1] for line in lines] == ["1 temporary file of killed processes"] * 2
    assert doctor("--fix") == []
    assert not any(path.exists() for path in left)


# --- DVC --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("registered")
def test_an_output_that_is_not_the_one_in_the_lock_file_is_found(doctor, dvc):
    dvc(json.dumps({"train": [{"changed outs": {"models/model.json": "modified"}}]}))
    find(doctor(), "DVC", "models/model.json: differs from dvc.lock; `dvc repro` recreates it, `dvc commit`")
    dvc(json.dumps({"train": [{"changed outs": {"models/model.json": "not in cache"}}]}))
    find(doctor(), "DVC", "models/model.json: is not in DVC's cache; `dvc repro` recreates it")


@pytest.mark.usefixtures("registered")
def test_a_damaged_output_is_not_offered_to_be_kept(doctor, dvc, evaluated):
    card = evaluated / "models" / "model.json"
    written = json.loads(card.read_text())
    written["settings"]["model"]["name"] = 7
    card.write_text(json.dumps(written))
    changed = {"models/model.json": "modified", "reports/train": "modified"}
    dvc(json.dumps({"train": [{"changed outs": changed}]}))
    said, *dvcs = doctor()

    assert "models/model.json: damaged (settings.model.name: expected text); run `darkroom train` again" in said
    assert [line.partition("  ")[2].strip() for line in dvcs if line.startswith("DVC")] == [
        "models/model.json: differs from dvc.lock; `dvc repro` recreates it",
        "reports/train: differs from dvc.lock; `dvc repro` recreates it, `dvc commit` keeps it as it is",
    ]


@pytest.mark.usefixtures("registered")
def test_stages_that_are_still_to_run_are_no_fault(doctor, dvc):
    dvc(json.dumps({"train": [{"changed deps": {"params.yaml": {"train.lr": "modified"}}}, "always changed"]}))
    assert doctor() == []


@pytest.mark.usefixtures("registered")
def test_what_dvc_complains_of_is_told(doctor, dvc):
    dvc("", 255, "ERROR: you are not inside of a DVC repository")
    find(doctor(), "DVC", "`dvc status` failed: you are not inside of a DVC repository")


# --- the store --------------------------------------------------------------------------------------------


def change(root, statement, *values):
    with closing(sqlite3.connect(root / "mlflow.db")) as database, database:
        database.execute(statement, values)


@pytest.mark.usefixtures("registered")
def test_a_store_that_was_copied_is_found_and_relocated(doctor, evaluated, tmp_path_factory, monkeypatch):
    copy = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(evaluated, copy)
    monkeypatch.chdir(copy)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow has set it to the original
    find(doctor(), "store", "was moved or copied, and still looks for its files in", "`darkroom relocate`")
    assert doctor("--fix") == []
    shutil.rmtree(evaluated / "mlruns")  # the copy needs nothing of the original
    assert doctor() == []


@pytest.mark.usefixtures("registered")
def test_a_locked_store_is_found(doctor, evaluated, monkeypatch):
    monkeypatch.setattr("darkroom.commands.doctor.store.LOCK_TIMEOUT_SECONDS", 0)
    with closing(sqlite3.connect(evaluated / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        find(doctor(), "store", "cannot be used (locked)", "nothing is lost, run the command again")


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("name", ["mlflow.db"])
def test_a_damaged_store_is_found(doctor, evaluated, name):
    path = evaluated / name
    content = bytearray(path.read_bytes())
    content[4096 * 20 : 4096 * 40] = os.urandom(4096 * 20)
    path.write_bytes(content)
    assert any(line.startswith("store") and "damaged" in line for line in doctor())


@pytest.mark.usefixtures("registered")
def test_a_store_of_a_newer_mlflow_is_found(doctor, evaluated):
    change(evaluated, "UPDATE alembic_version SET version_num = 'fffffffffff0'")
    assert all("was made by a newer MLflow" in line for line in doctor())


def test_a_deleted_experiment_is_found(registered, doctor):
    client, _ = registered
    client.delete_experiment(client.get_experiment_by_name("darkroom").experiment_id)
    find(doctor(), "store", "experiment 'darkroom' is deleted", "mlflow experiments restore --experiment-id 1")


def test_a_run_whose_process_was_killed_is_found_and_ended(registered, doctor):
    client, _ = registered
    experiment = client.get_experiment_by_name("darkroom").experiment_id
    run = client.create_run(experiment, tags={"darkroom.process": GONE})
    find(doctor(), "store", f"run {run.info.run_id}: RUNNING, but its process was killed")
    assert doctor("--fix") == []
    assert client.get_run(run.info.run_id).info.status == "KILLED"


def spool(store):
    made = Spool.create(Workspace().spools, store, "darkroom")
    tags = {"darkroom.run": RUN, "darkroom.process": "elsewhere:1:1"}
    made.append({"do": "begin", "run": RUN, "name": "a run", "parent": None, "time": 1, "tags": tags})
    made.close()


def test_what_this_store_has_not_taken_is_found_and_brought(registered, doctor, evaluated):
    client, _ = registered
    spool("sqlite:///mlflow.db")
    find(doctor(), "store", "1 message for sqlite:///mlflow.db that it has not received; `darkroom register`")
    assert doctor("--fix") == []
    experiment = client.get_experiment_by_name("darkroom").experiment_id
    assert len(client.search_runs([experiment], f"tags.`darkroom.run` = '{RUN}'")) == 1
    assert not list(Workspace().spools.iterdir())


@pytest.mark.usefixtures("registered")
def test_what_another_store_has_not_taken_is_found(doctor):
    spool("http://127.0.0.1:9")
    find(doctor(), "store", "1 message for http://127.0.0.1:9 that it has not received; set MLFLOW_TRACKING_URI")


def test_an_address_that_no_store_can_have_is_found(registered, doctor, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "htp://127.0.0.1:5000")
    assert any("MLflow knows no htp: stores" in line for line in doctor())


# --- the registry -----------------------------------------------------------------------------------------


def test_a_model_that_is_in_no_registry_is_found(evaluated, doctor):
    find(doctor(), "registry", f"models/model.safetensors: not registered as {NAME} in this store; `darkroom register`")
    (evaluated / "mlflow.db").unlink()
    find(doctor(), "registry", "models/model.safetensors: not registered in sqlite:///", "`darkroom register`")


def test_a_champion_that_was_changed_is_found(registered, doctor):
    client, version = registered
    model = client.get_logged_model(str(version.source).removeprefix("models:/"))
    path = Path(model.artifact_location.removeprefix("file://")) / MODEL_FILE
    torch.export.save(torch.export.load(path), path, extra_files={"note": "another file"})
    find(doctor(), "registry", "version 1: model.pt2 is not the one that was registered", "`darkroom register`")


def test_a_version_that_was_champion_once_may_be_lost(registered, doctor):
    client, version = registered
    client.delete_registered_model(f"{NAME}-history")
    for alias in ("champion", "challenger"):
        client.delete_registered_model_alias(NAME, alias)
    client.set_registered_model_alias(NAME, "previous", "1")
    model = client.get_logged_model(str(version.source).removeprefix("models:/"))
    (Path(model.artifact_location.removeprefix("file://")) / MODEL_FILE).write_bytes(b"another file")
    assert doctor() == []


def test_an_alias_that_was_moved_by_hand_is_found_and_moved_back(registered, doctor):
    client, version = registered
    client.create_model_version(NAME, str(version.source), version.run_id, tags=version.tags)
    client.set_registered_model_alias(NAME, "champion", "2")
    find(doctor(), "registry", f"{NAME}: champion is version 2, but its history says version 1; `darkroom models` mo")
    assert doctor("--fix") == []
    assert client.get_model_version_by_alias(NAME, "champion").version == 1


def test_a_history_that_was_changed_is_found(registered, doctor):
    client, _ = registered
    client.set_model_version_tag(f"{NAME}-history", "1", "reason", "because I say so")
    find(doctor(), "registry", f"{NAME}-history: entry 1 was changed after it was written", "`darkroom history`")


def test_a_deleted_registered_model_is_found(registered, doctor):
    registered[0].delete_registered_model(NAME)
    lines = doctor()
    assert all(line.startswith("registry") for line in lines)
    assert any("not registered as" in line for line in lines)


def test_a_deleted_champion_is_said_and_nothing_claims_to_repair_it(registered, doctor):
    client, version = registered
    client.delete_model_version(NAME, version.version)
    said = f"{NAME}: version {version.version}, champion by its history, was deleted; `darkroom promote` makes another"
    for options in ((), ("--fix",)):
        lines = doctor(*options)
        assert [line for line in lines if said in line]
        assert not [line for line in lines if "moves it" in line]


def test_settings_that_are_wrong_end_with_exit_code_2(project, darkroom):
    project(train__lr=-1)
    code, _, errors = darkroom("doctor")
    assert (code, "train.lr: expected greater than 0" in errors) == (2, True)


def test_keys_that_dvc_looks_for_and_an_old_params_file_lacks_are_found_and_added(doctor, project):
    root = project(**QUICK, train__lr=0.0123)
    shutil.copy(defaults.ROOT / "dvc.yaml", root)
    assert doctor() == []
    params = root / "params.yaml"
    lines = params.read_text().splitlines(keepends=True)
    params.write_text("".join(line for line in lines if not line.startswith(("  coverage:", "  coverage_per_class:"))))
    find(
        doctor(),
        "settings",
        "params.yaml: lacks serve.coverage, serve.coverage_per_class, without which `dvc repro` stops; `make params` ",
    )

    write_all_settings()

    assert doctor() == []
    assert load(params).train.lr == 0.0123


def test_a_section_that_dvc_looks_for_is_found_to_be_missing(doctor, project):
    root = project(**QUICK)
    shutil.copy(defaults.ROOT / "dvc.yaml", root)
    text = (root / "params.yaml").read_text()
    begin = text.index("\ngate:")
    (root / "params.yaml").write_text(text[:begin] + text[text.index("\n\n", begin) :])
    find(doctor(), "settings", "params.yaml: lacks gate, without which")


def test_images_that_were_moved_away_are_found(doctor, project, tmp_path):
    project(dataset__name="folder", dataset__path="photos of pets")
    find(
        doctor(),
        "working tree",
        "dataset.path: photos of pets: not found; put it back, or set dataset.path to where the images are now",
    )
    (Workspace().root / "photos of pets").mkdir()
    assert not doctor()


def test_a_path_that_dvc_takes_for_a_name_is_found_with_the_whole_one(doctor, project, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "pets").mkdir()
    project(dataset__name="folder", dataset__path="~/pets")
    find(doctor(), "working tree", f"dataset.path: ~/pets: not found; DVC needs its whole path, {tmp_path / 'pets'}")


def test_the_settings_name_what_is_checked(registered, doctor, project):
    """Of another dataset nothing is there yet, and the model in the working tree is none of it."""
    project(**QUICK | {"dataset__name": "mnist"})
    assert load(Workspace().params).registered_model == "darkroom-mnist"
    find(doctor(), "registry", "not registered as darkroom-mnist in this store")
