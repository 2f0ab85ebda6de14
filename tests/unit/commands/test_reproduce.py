"""What is printed for a reproduced training, for one with another result, and the possible reasons."""

import json
import sys

import pytest

from darkroom.cli import main as cli
from darkroom.commands import reproduce
from darkroom.commands.checkout import Checkout
from darkroom.config import load
from darkroom.errors import TrackingError
from darkroom.promotion.training_run import TrainingRun
from darkroom.workspace import Workspace

RUN = "a" * 32
WEIGHTS = "b" * 64
FACTS = {
    "system.device": "cpu",
    "system.threads": "2",
    "system.precision": "fp32",
    "system.features_by": "ONNX Runtime",
    "system.torch": "2.15.0",
}
METRICS = {"best/epoch": 2.0, "best/val_accuracy": 0.9, "best/val_loss": 0.1 + 0.2, "train/loss": 0.5}
TEST = {"test/accuracy": 0.85, "test/f1_macro": 0.84, "test/log_loss": 0.4, "test/calibration_error": 0.1}
REPRODUCED = "Reproduced: the same weights and metrics, bit for bit."


@pytest.fixture
def came_out(project, monkeypatch, capsys):
    """Reproduce a training that comes out as told; gives whether it is the same, what is printed, and what was run."""
    project()

    def run(*, metrics=METRICS, then=FACTS, settings=None, doubts=(), weights=WEIGHTS, now=FACTS, best=(), test=()):
        model = settings or {"model": {"name": "mlp"}, "dataset": {"name": "digits"}, "train": {"deterministic": False}}
        recorded = TrainingRun(RUN, model, None, False, then, metrics, WEIGHTS, "c" * 64)
        ran = []

        def darkroom(self, command):
            ran.append(command)
            workspace = self.workspace
            if command == "train":
                found = {key: METRICS[f"best/{key}"] for key in reproduce.BEST} | dict(best)
                workspace.model_card.parent.mkdir(parents=True)
                card = {"best_epoch": found, "facts": now, "weights_sha256": weights}
                workspace.model_card.write_text(json.dumps(card))
            else:
                summary = {key.partition("/")[2]: value for key, value in TEST.items()} | dict(test)
                workspace.report("evaluate").mkdir(parents=True)
                (workspace.report("evaluate") / "metrics.json").write_text(json.dumps(summary))

        monkeypatch.setattr(Checkout, "darkroom", darkroom)
        monkeypatch.setattr(reproduce, "read_training_run", lambda client, run_id: recorded)
        monkeypatch.setattr(reproduce, "bring_code", lambda training, workspace, place: (place, list(doubts)))
        monkeypatch.setattr(reproduce, "bring_settings", lambda *arguments: None)
        monkeypatch.setattr(reproduce, "bring_data", lambda *arguments: None)
        is_same = reproduce.run(load(Workspace().params), Workspace(), RUN)
        return is_same, capsys.readouterr().out, ran

    return run


def test_equal_weights_and_figures_are_the_same(came_out):
    is_same, said, ran = came_out()
    assert is_same
    assert said.splitlines()[-1] == REPRODUCED
    assert "DIFFERS" not in said
    assert all(name in said for name in ("best/epoch", "best/val_accuracy", "best/val_loss", "weights' SHA-256"))
    assert ran == ["train"]


def test_a_run_that_was_evaluated_is_evaluated_again(came_out):
    is_same, said, ran = came_out(metrics=METRICS | TEST)
    assert is_same
    assert ran == ["train", "evaluate"]
    assert all(name in said for name in ("test/accuracy", "test/f1_macro", "test/log_loss"))
    assert "calibration" not in said  # its bins are a setting of the evaluation, which the run does not hold


@pytest.mark.parametrize(
    ("outcome", "name"),
    [
        ({"weights": "d" * 64}, "weights' SHA-256"),
        ({"best": {"val_loss": 0.3}}, "best/val_loss"),  # 0.1 + 0.2 is not 0.3
        ({"metrics": METRICS | TEST, "test": {"log_loss": 0.41}}, "test/log_loss"),
    ],
)
def test_whatever_differs_is_named_and_makes_it_another(came_out, outcome, name):
    is_same, said, _ = came_out(**outcome)
    assert not is_same
    (line,) = [line for line in said.splitlines() if "DIFFERS" in line]
    assert line.split("  ")[1].strip() == name
    assert REPRODUCED not in said


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({"system.threads": 1}, "threads 2 then, 1 now"),
        ({"system.precision": "bf16"}, "precision fp32 then, bf16 now"),
        ({"system.features_by": "torch on cpu"}, "features by ONNX Runtime then, torch on cpu now"),
        ({"system.torch": "2.16.0"}, "torch 2.15.0 then, 2.16.0 now"),
        ({"system.device": "cuda"}, "device cpu then, cuda now; train.deterministic is false: on a GPU two trainings"),
    ],
)
def test_what_differs_in_the_environment_is_named(came_out, now, reason):
    _, said, _ = came_out(weights="d" * 64, now=FACTS | now)
    assert f"Not reproduced. Differences: {reason}" in said


def test_numbers_that_were_recorded_as_text_are_equal(came_out):
    _, said, _ = came_out(weights="d" * 64, now=FACTS | {"system.threads": 2})
    assert "threads" not in said
    assert "The environment that the run recorded is the same here; a different processor may be the reason." in said


def test_doubts_about_the_code_are_named(came_out):
    _, said, _ = came_out(weights="d" * 64, doubts=["the current code is used"])
    assert said.splitlines()[-1] == "Not reproduced. Differences: the current code is used."


def test_it_fits_into_80_columns(came_out):
    _, said, _ = came_out(metrics=METRICS | TEST)
    assert max(len(line.rstrip()) for line in said.splitlines()) <= 80


@pytest.mark.parametrize(("is_same", "code"), [(True, 0), (False, 3)])
def test_the_exit_code_says_whether_the_same_came_out(project, monkeypatch, is_same, code):
    project()
    monkeypatch.setattr(reproduce, "run", lambda config, workspace, run_id: is_same)
    monkeypatch.setattr(sys, "argv", ["darkroom", "reproduce", RUN])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code or 0) == code


def test_without_a_store_none_is_made(project):
    root = project()
    (root / "mlflow.db").unlink()
    with pytest.raises(TrackingError, match=r"no MLflow store at .*; MLFLOW_TRACKING_URI names the one that has"):
        reproduce.run(load(Workspace().params), Workspace(), RUN)
    assert not (root / "mlflow.db").exists()
