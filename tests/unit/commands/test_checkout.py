"""What a training was made of is brought to a place of its own, and nothing else is touched."""

import csv
import importlib
import json
import os
import shutil
import subprocess
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import darkroom
from darkroom.commands.checkout import Checkout, bring_code, bring_data, bring_settings
from darkroom.config import load
from darkroom.data.cache import read_digests
from darkroom.data.digests import as_hex
from darkroom.datasets.fixes import Fix, read_fixes, write_fixes
from darkroom.errors import DataError, TrackingError, TrainingError
from darkroom.promotion.training_run import TrainingRun
from darkroom.stages import download, preprocess
from darkroom.tracking.tracker import registry_client
from darkroom.utils.files import write_json
from darkroom.workspace import Workspace

IDENTITY = ("-c", "user.name=Test", "-c", "user.email=test@example.org")


def training(**changes):
    found = {
        "run_id": "a" * 32, "settings": {}, "commit": None, "was_dirty": False, "environment": {}, "metrics": {},
        "weights_sha256": "b" * 64, "fingerprint": "c" * 64,
    }  # fmt: skip
    return TrainingRun(**found | changes)


def git(root, *arguments):
    return subprocess.run(["git", *IDENTITY, *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


# --- code --------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path):
    """A repository whose code is another by now than at its first commit; gives its root and that commit."""
    root = tmp_path / "repository"
    code = root / "src" / "darkroom" / "code.py"
    code.parent.mkdir(parents=True)
    git(tmp_path, "init", "--quiet", str(root))
    for text in ("then", "now"):
        code.write_text(text)
        git(root, "add", "--all")
        git(root, "commit", "--quiet", f"--message={text}")
    code.write_text("not committed")
    return root, git(root, "rev-parse", "HEAD~").strip()


def test_the_code_is_that_of_the_commit_and_the_repository_stays_as_it_is(repository, tmp_path):
    root, commit = repository
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    source, doubts = bring_code(training(commit=commit), Workspace(root), tmp_path / "code")
    assert (source / "darkroom" / "code.py").read_text() == "then"
    assert doubts == []
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_a_commit_without_the_package_is_refused(repository, tmp_path):
    root, _ = repository
    git(root, "rm", "--quiet", "--force", "-r", "src")
    git(root, "commit", "--quiet", "--message=gone")
    commit = git(root, "rev-parse", "HEAD").strip()
    with pytest.raises(TrackingError, match=f"commit {commit[:12]}, and this repository holds no src/darkroom of it"):
        bring_code(training(commit=commit), Workspace(root), tmp_path / "code")


def test_the_code_of_a_project_below_the_repositorys_root_is_found(tmp_path):
    root = tmp_path / "repository"
    code = root / "project" / "src" / "darkroom" / "code.py"
    code.parent.mkdir(parents=True)
    code.write_text("then")
    git(tmp_path, "init", "--quiet", str(root))
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=then")
    commit = git(root, "rev-parse", "HEAD").strip()
    source, _ = bring_code(training(commit=commit), Workspace(root / "project"), tmp_path / "code")
    assert (source / "darkroom" / "code.py").read_text() == "then"


def test_a_tree_that_was_dirty_is_told_of(repository, tmp_path, capsys):
    root, commit = repository
    _, doubts = bring_code(training(commit=commit, was_dirty=True), Workspace(root), tmp_path / "code")
    assert doubts == [f"the working tree had changes that commit {commit[:12]} does not contain"]
    assert "if they were in src/, different code is trained" in capsys.readouterr().err


def test_a_commit_that_the_repository_lacks_is_refused(repository, tmp_path):
    root, _ = repository
    with pytest.raises(
        TrackingError,
        match=r"^run a{32}: trained with commit 0{12}, and this repository holds no src/darkroom of it; fetch",
    ):
        bring_code(training(commit="0" * 40), Workspace(root), tmp_path / "code")


@pytest.mark.parametrize(
    ("commit", "why"), [(None, "says no commit"), ("d" * 40, f"is of commit {'d' * 12}, but this is no git repository")]
)
def test_outside_git_the_code_is_that_of_today_and_it_is_said(tmp_path, monkeypatch, capsys, commit, why):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    source, doubts = bring_code(training(commit=commit), Workspace(tmp_path), tmp_path / "code")
    assert source == Path(darkroom.__file__).parents[1]
    assert doubts == ["the current code is used"]
    said = capsys.readouterr().err
    assert "trained with the current code" in said
    assert why in said


# --- settings ----------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    """Make a place for a training of the project's settings, with changes to them."""

    def make(**changes):
        root = tmp_path / "place" / "project"
        root.mkdir(parents=True, exist_ok=True)
        return Checkout(training(**changes), Workspace(root), Path(darkroom.__file__).parents[1])

    return make


def recorded(config):
    """What a run records of its settings: the sections that a training depends on, and of its data not the place."""
    sections = config.model_dump(mode="json", include={"preprocess", "model", "augment", "train"})
    return {"dataset": config.dataset.recorded, **sections}


def restored(project_root, checkout, found):
    made = checkout(settings=found)
    bring_settings(made.training, load(project_root / "params.yaml"), Workspace(project_root), made)
    return load(made.workspace.params)


def test_the_settings_are_those_of_the_run_and_not_of_today(project, checkout):
    root = project(train__epochs=3, train__lr=0.00001, model__name="mlp", model__hidden=[8, 4], augment__flip="random")
    found = recorded(load(root / "params.yaml"))
    project(train__epochs=7, evaluate__batch_size=99)
    config = restored(root, checkout, found)
    assert recorded(config) == found
    assert config.evaluate.batch_size == 99  # which no run records
    assert json.loads((checkout().workspace.best_params).read_text()) == {"params": {}}


@settings(deadline=None)  # a busy machine is slow
@given(lr=st.floats(min_value=0, max_value=100, exclude_min=True))
def test_a_number_is_read_as_it_was_recorded_to_its_last_digit(tmp_path_factory, lr):
    path = tmp_path_factory.getbasetemp() / "numbers.yaml"
    write_json(path, {"train": {"lr": lr}, "search": {"trials": 0}})  # as bring_settings writes it
    assert load(path).train.lr == lr


def test_places_are_meant_from_the_project(project, checkout, monkeypatch):
    root = project(dataset__path="data/folder", model__weights_path="weights.pth", model__name="pretrained")
    found = recorded(load(root / "params.yaml"))
    config = restored(root, checkout, found)
    assert config.dataset.path == str(root / "data" / "folder")
    assert config.model.weights_path == str(root / "weights.pth")

    monkeypatch.setenv("HOME", str(root / "home"))
    project(dataset__path="~/pets")
    assert restored(root, checkout, found).dataset.path == str(root / "home" / "pets")

    (root / "mirror").mkdir()
    monkeypatch.setenv("DARKROOM_MIRROR", "mirror")
    assert restored(root, checkout, found).dataset.mirror == str(root / "mirror")
    project(dataset__mirror="https://example.org/mirror")
    assert restored(root, checkout, found).dataset.mirror == "https://example.org/mirror"


# --- data --------------------------------------------------------------------------------------------------


@pytest.fixture
def in_this_process(monkeypatch):
    """Let a checkout run its commands with the code of today in this process, and list them."""
    ran = []

    def darkroom(self, command):
        ran.append(command)
        with chdir(self.workspace.root):
            importlib.import_module(f"darkroom.stages.{command}").run(load(Path("params.yaml")), Workspace())

    monkeypatch.setattr(Checkout, "darkroom", darkroom)
    return ran


@pytest.fixture
def folder(project):
    """A project with a folder of images, preprocessed; gives its root, its settings and the data's fingerprint."""
    root = project(dataset__name="folder")
    for number in range(50):
        path = root / "data" / "folder" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        _picture(number).save(path)
    config = load(root / "params.yaml")
    for stage in (download, preprocess):
        stage.run(config, Workspace())
    card = json.loads((root / "data" / "processed" / "folder" / "dataset.json").read_text())
    return root, recorded(config), card["fingerprint"]


def _picture(number):
    picture = Image.new("L", (6, 6), 5 * number)
    picture.putpixel((0, 0), 255 - 5 * number)
    return picture


def bring(folder, checkout):
    root, found, fingerprint = folder
    made = checkout(settings=found, fingerprint=fingerprint)
    bring_settings(made.training, load(root / "params.yaml"), Workspace(root), made)
    bring_data(made.training, Workspace(root), made)
    return made.workspace.processed("folder")


def test_the_data_that_lies_here_is_used_where_it_is_the_runs(folder, checkout, in_this_process):
    root, *_ = folder
    assert bring(folder, checkout).resolve() == root / "data" / "processed" / "folder"
    assert in_this_process == []


@pytest.mark.parametrize("lies_here", ["nothing", "other data"])
def test_the_data_is_made_again_elsewhere_where_it_is_not_here(folder, checkout, project, in_this_process, lies_here):
    root, _, fingerprint = folder
    if lies_here == "nothing":
        shutil.rmtree(root / "data" / "processed")
    else:
        project(dataset__name="folder", preprocess__seed=1)
        preprocess.run(load(root / "params.yaml"), Workspace())
    before = {path: path.stat().st_mtime_ns for path in (root / "data").rglob("*")}
    made = bring(folder, checkout)
    assert in_this_process == ["download", "preprocess"]
    assert json.loads((made / "dataset.json").read_text())["fingerprint"] == fingerprint
    assert {path: path.stat().st_mtime_ns for path in (root / "data").rglob("*")} == before


def test_images_are_dropped_again_where_they_were_for_the_run(project, checkout, in_this_process):
    settings = {"dataset__name": "folder", "preprocess__audit": "full"}
    root = project(**settings, dataset__on_leak="drop-train")
    pictures = np.random.default_rng(0).integers(0, 256, (60, 6, 6), dtype=np.uint8)
    for split, first, end in (("train", 0, 50), ("test", 44, 60)):
        for number in range(first, end):
            path = root / "data" / "folder" / split / str(number % 2) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pictures[number]).save(path)
    config = load(root / "params.yaml")
    for stage in (download, preprocess):
        stage.run(config, Workspace())
    then = json.loads((root / "data" / "processed" / "folder" / "dataset.json").read_text())
    project(**settings)
    preprocess.run(load(root / "params.yaml"), Workspace())
    now = json.loads((root / "data" / "processed" / "folder" / "dataset.json").read_text())

    made = bring((root, recorded(config), then["fingerprint"]), checkout)

    assert then["sizes"]["train"] < now["sizes"]["train"]
    assert json.loads((made / "dataset.json").read_text())["sizes"] == then["sizes"]


def test_labels_are_read_as_today_where_the_data_is_made_again(project, checkout, in_this_process):
    root = project(dataset__name="folder", dataset__labels="labels.csv")
    lines = ["file,label"]
    for number in range(50):
        _picture(number).save(root / "data" / "folder" / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[number % 2]}")
    (root / "data" / "folder" / "labels.csv").write_text("\n".join(lines))
    config = load(root / "params.yaml")
    for stage in (download, preprocess):
        stage.run(config, Workspace())
    fingerprint = json.loads((root / "data" / "processed" / "folder" / "dataset.json").read_text())["fingerprint"]
    shutil.rmtree(root / "data" / "processed")

    made = bring((root, recorded(config), fingerprint), checkout)

    assert json.loads((made / "dataset.json").read_text())["fingerprint"] == fingerprint
    assert in_this_process == ["download", "preprocess"]


def test_the_fixes_are_those_of_the_run_and_not_of_today(folder, checkout, in_this_process):
    root, found, _ = folder
    config, digests = load(root / "params.yaml"), read_digests(root / "data" / "processed" / "folder", "train")
    then, now = (
        Fix(content, "", label, "drop", "", "", "")
        for content, label in zip(as_hex(digests[:2]), labels(root), strict=False)
    )
    write_fixes(root / "data" / "fixes.csv", [then])
    preprocess.run(config, Workspace())
    fingerprint = json.loads((root / "data" / "processed" / "folder" / "dataset.json").read_text())["fingerprint"]
    client = registry_client(Workspace())
    run_id = client.create_run(client.create_experiment("darkroom")).info.run_id
    client.log_artifacts(run_id, str(root / "reports" / "preprocess"), "preprocess")
    write_fixes(root / "data" / "fixes.csv", [now])
    preprocess.run(config, Workspace())

    made = checkout(settings=found, fingerprint=fingerprint, run_id=run_id)
    bring_settings(made.training, config, Workspace(root), made)
    bring_data(made.training, Workspace(root), made)
    assert read_fixes(made.workspace.fixes) == [then]
    assert in_this_process == ["download", "preprocess"]
    assert read_fixes(root / "data" / "fixes.csv") == [now]


def labels(root):
    """The labels of the train images."""
    with (root / "data" / "processed" / "folder" / "files.csv").open(newline="") as opened:
        return [row["class"] for row in csv.DictReader(opened) if row["split"] == "train"]


def test_data_that_has_changed_since_is_refused(folder, checkout, in_this_process):
    root, _, fingerprint = folder
    shutil.rmtree(root / "data" / "processed")
    Image.new("L", (6, 6), 255).save(root / "data" / "folder" / "0" / "0.png")
    pattern = (
        rf"^run a{{32}}: its data, {fingerprint[:12]}, is not what download and preprocess now produce: \w{{12}}; "
    )
    with pytest.raises(DataError, match=pattern) as raised:
        bring(folder, checkout)
    assert "\n" not in str(raised.value)


# --- commands ----------------------------------------------------------------------------------------------


@pytest.fixture
def code(tmp_path, checkout):
    """A checkout of a code that does what is written, and the training it is of."""

    def make(text, **changes):
        package = tmp_path / "code" / "darkroom"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(text)
        made = checkout(**changes)
        return Checkout(made.training, made.workspace, package.parent)

    return make


REPORT = "import json, os, sys; json.dump([sys.argv, dict(os.environ)], open('told.json', 'w'))"


@pytest.mark.slow
def test_a_command_is_that_of_the_code_with_the_runs_threads_and_a_store_of_its_own(code, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.setenv(name, "the team's")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    made = code(REPORT, environment={"system.threads": "3"})
    made.darkroom("evaluate")
    arguments, environment = json.loads((made.workspace.root / "told.json").read_text())
    assert arguments[1:] == ["evaluate"]
    assert environment["OMP_NUM_THREADS"] == "3"
    assert {key for key in environment if key.startswith("MLFLOW_")} == {"MLFLOW_TRACKING_URI"}
    assert environment["MLFLOW_TRACKING_URI"] == f"sqlite:///{made.workspace.root / 'mlflow.db'}"
    assert environment["PATH"] == os.environ["PATH"]


@pytest.mark.slow
def test_a_command_that_fails_is_told_in_one_line(code):
    made = code("import sys; print('warning: x\\nerror: params.yaml: no\\n', file=sys.stderr); sys.exit(2)")
    with pytest.raises(TrainingError, match=r"^run a{32}: `darkroom preprocess` of its code failed: params\.yaml: no$"):
        made.darkroom("preprocess")


@pytest.mark.slow
def test_a_training_that_fails_has_said_why_itself(code, capfd):
    made = code("import sys; print('error: no such device', file=sys.stderr); sys.exit(2)")
    with pytest.raises(TrainingError, match=r"^run a{32}: `darkroom train` of its code failed: see above$"):
        made.darkroom("train")
    assert capfd.readouterr().err == "error: no such device\n"


@pytest.mark.slow
def test_torch_takes_the_number_of_threads_that_a_run_had(code, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    # On a machine with fewer cores torch takes fewer, which the comparison then names.
    made = code(
        "import torch; open('threads', 'w').write(str(torch.get_num_threads()))", environment={"system.threads": "1"}
    )
    made.darkroom("train")
    assert (made.workspace.root / "threads").read_text() == "1"
