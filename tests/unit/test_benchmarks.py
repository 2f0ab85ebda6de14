"""Benchmarks measure in turn and hide nothing, and the page says what was measured."""

import ast
import json
import re
import runpy
import subprocess
import sys
import tomllib
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import harness, images, performance, photographs, project, training, ways
from benchmarks.cpu import start_up
from benchmarks.serve import predictor
from PIL import Image

from darkroom.config.settings import Model
from darkroom.data.batches import read_split
from darkroom.data.cache import DatasetCard
from darkroom.models.classifier import build_classifier
from darkroom.training import fit

ROOT = Path(__file__).parents[2]
SCRIPTS = [(group, script) for group in performance.GROUPS for script in performance.scripts(group)]
MACHINE = {"cpu": "a CPU", "cores": 2, "date": "2026-01-01"}

# Jobs a and b that can be measured, one that this machine cannot run, one whose package is missing, one that breaks.
SCRIPT = """
from pathlib import Path
from benchmarks.harness import Benchmark, NotHere, arguments, run

def measured(name, value):
    def job(options):
        with Path({log!r}).open("a") as log:
            log.write(f"{{name}}{{options.round}} ")
        print("a library prints what it likes")
        return {{"images/s": value, "s": [1.0, 2.0]}}
    return job

def not_here(options):
    raise NotHere("there is no such device")

def no_package(options):
    import a_package_that_nobody_has

def breaks(options):
    raise ValueError("broken")

if __name__ == "__main__":
    jobs = {{("small", "a"): measured("a", 30.0), ("small", "b"): measured("b", 10.0)}}
    others = {{("", way.__name__): way for way in (not_here, no_package, breaks)}}
    benchmark = Benchmark(title="Made", jobs=jobs | others, conditions={{"images": 3}}, baselines=["b"])
    run(benchmark, arguments(None, rounds=2).parse_args())
"""


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What two rounds of SCRIPT have written, and its exit code."""
    script = tmp_path / "made.py"
    script.write_text(SCRIPT.format(log=str(tmp_path / "log")))
    monkeypatch.setattr(sys, "argv", [str(script), "--results", str(tmp_path / "results")])
    monkeypatch.setattr(harness, "_machine", lambda: MACHINE)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    return json.loads((tmp_path / "results" / "made.json").read_text()), ended.value.code


@pytest.mark.slow
def test_ways_take_turns_and_every_second_round_in_reverse(results: Any, tmp_path: Path) -> None:
    assert (tmp_path / "log").read_text().split() == ["a0", "b0", "b1", "a1"]


@pytest.mark.slow
def test_figures_are_kept_with_their_number_and_spread(results: Any) -> None:
    document, _ = results
    first, several, *_ = document["results"]

    assert [first[key] for key in ("case", "name", "unit", "values", "n")] == ["small", "a", "images/s", [30, 30], 2]
    assert [several[key] for key in ("unit", "values", "n", "median")] == ["s", [1, 2, 1, 2], 4, 1.5]
    assert document["conditions"] == {"images": 3} | MACHINE


@pytest.mark.slow
def test_what_cannot_run_is_recorded_with_its_reason_and_a_failure_as_one(results: Any) -> None:
    document, code = results
    absent = {entry["name"]: (entry["reason"], entry["failed"]) for entry in document["not_measured"]}

    assert absent == {
        "not_here": ("there is no such device", False),
        "no_package": ("a_package_that_nobody_has is not installed", False),
        "breaks": ("failed: ValueError: broken", True),
    }
    assert code == 1


def test_a_summary_tells_the_median_and_the_spread() -> None:
    found = harness.summary([4.0, 1.0, 7.0])

    assert found == {"n": 3, "median": 4, "low": 1, "high": 7, "mean": 4, "sd": 3}
    assert harness.summary([2.0])["sd"] == 0


def test_a_run_without_figures_keeps_those_of_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    harness.write({"results": [1]}, path)
    harness.write({"results": []}, path)

    assert json.loads(path.read_text()) == {"results": [1]}


# --- the page ----------------------------------------------------------------------------------------


def test_the_page_says_what_was_measured() -> None:
    page = performance.PAGE.read_text(encoding="utf-8")
    documents = performance.read()

    assert page == performance.page(documents), "run `python -m benchmarks.performance`"
    assert documents.keys() <= {script.stem for _, script in SCRIPTS}
    pictures = re.findall(r"\]\((images/[^)]+)\)", page)
    assert not [picture for picture in pictures if not (ROOT / "docs" / picture).is_file()]


def test_the_results_files_agree_with_their_values() -> None:
    for document in performance.read().values():
        for result in document["results"]:
            told = {key: result[key] for key in ("n", "median", "low", "high", "mean", "sd")}
            assert told == pytest.approx(harness.summary(result["values"])), document["benchmark"]


def test_a_table_shows_ratios_goals_and_what_is_missing() -> None:
    def result(name: str, *values: float, unit: str = "images/s") -> dict[str, Any]:
        return {"case": "batch 64", "name": name, "unit": unit, "values": values}

    goals = [
        {"case": "batch 64", "ratio": ["fit", "tutorial"], "at_least": 2},
        {"case": "batch 64", "ratio": ["fit", "bare"], "at_least": 1},
        {"case": "batch 64", "ratio": ["fit", "Keras"], "at_least": 1},
        {"case": "batch 64", "name": "fit", "unit": "images/s", "at_most": 2500},
        {"case": "batch 64", "name": "bare", "unit": "images/s", "at_most": 2500},
        {"case": "batch 64", "name": "bare", "unit": "MiB, peak", "at_most": 300},
        {"case": "batch 64", "name": "fit", "unit": "test accuracy, %", "at_least": 92},
        {"case": "batch 64", "name": "fit", "unit": "test accuracy, %", "at_least": 92.1},
    ]
    document = {
        "benchmark": "training_cnn",
        "title": "Training",
        "conditions": MACHINE | {"images": 5},
        "baselines": ["tutorial"],
        "results": [
            result("tutorial", 1000, 900, 1100), result("fit", 2500), result("bare", 3000.0),
            result("fit", 91.0, 93.0, unit="test accuracy, %"),
        ],
        "not_measured": [{"case": "batch 64", "name": "Keras", "reason": "keras is not installed", "failed": False}],
        "goals": goals,
    }  # fmt: skip

    page = performance.page({"training_cnn": document})

    assert "| tutorial | 1,000 (900 to 1,100) |  | 1.00 | 3 |" in page
    assert "| fit | 2,500 | 92.00 ± 1.41 | 2.50 | 1, 2 |" in page
    assert "| batch 64, fit | at least 2 x tutorial | 2.500, met |" in page
    assert "| batch 64, fit | at least 1 x bare | 0.833, **missed** |" in page
    assert "| batch 64, fit | at least 1 x Keras | not measured |" in page
    assert "| batch 64, fit | at most 2500 images/s | 2,500, met |" in page
    assert "| batch 64, bare | at most 2500 images/s | 3,000, **missed** |" in page
    assert "| batch 64, bare | at most 300 MiB, peak | not measured |" in page
    assert "| batch 64, fit | at least 92 test accuracy, % | 92.00, met |" in page
    assert "| batch 64, fit | at least 92.1 test accuracy, % | 92.00, **missed** |" in page
    assert "- training_cnn (batch 64, Keras): keras is not installed" in page
    assert "- day: no run yet" in page
    assert "Conditions: images 5; a CPU, cores 2, 2026-01-01." in page


def test_a_single_accuracy_is_shown_without_a_deviation():
    assert performance.figure([93.464], "test accuracy, %") == "93.46"
    assert performance.figure([93.0, 94.0], "test accuracy, %") == "93.50 ± 0.71"


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    shown = [{"name": "fit", "unit": "s", "values": [1, 2]}, {"name": "fit", "unit": "MiB", "values": [3]}]

    performance.draw({"benchmark": "made", "results": shown}, tmp_path / "made.png")

    assert (tmp_path / "made.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("drawn")
def test_cases_with_ways_of_their_own_are_drawn_below_each_other(tmp_path: Path) -> None:
    def size_of(pairs: list[tuple[str, str]]) -> tuple[int, int]:
        shown = [{"case": case, "name": name, "unit": "s", "values": [1, 2]} for case, name in pairs]
        performance.draw({"benchmark": "made", "results": shown}, tmp_path / "made.png")
        with Image.open(tmp_path / "made.png") as picture:
            return picture.size

    shared = size_of([(case, name) for case in "pqrstuvw" for name in "ab"])
    apart = size_of([(case, f"{name} of {case}") for case in "pqrstuvw" for name in "ab"])

    assert shared[0] > shared[1]
    assert apart[0] < apart[1]


# --- the benchmarks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "script"), SCRIPTS, ids=lambda part: getattr(part, "stem", part))
def test_a_benchmark_tells_its_usage_and_conditions(group: str, script: Path) -> None:
    about = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""

    assert f"python -m benchmarks.{group}.{script.stem}" in about
    assert "Conditions: " in about


@pytest.mark.parametrize("model", ["mlp", "simple-cnn"])
def test_the_other_ways_train_the_network_that_fit_trains(model: str) -> None:
    card = DatasetCard("made", tuple("0123456789"), (1, 28, 28), (0.3,), (0.3,), {}, {}, "")
    ours = build_classifier(Model.model_validate({"name": model}), card)

    assert sorted(weights.numel() for weights in ways.network(model).parameters()) == sorted(
        weights.numel() for weights in ours.parameters()
    )


@pytest.mark.parametrize("way", ["tutorial", "bare", "tuned"])
def test_a_way_reports_images_a_second_and_memory(way: str) -> None:
    jobs = training.jobs("mlp", {way: getattr(ways, way)}, {64: [way]})

    figures = jobs["batch 64", way](Namespace(images=128))

    assert figures.keys() == {"images/s", "MiB, peak"}
    assert all(figure > 0 for figure in figures.values())


def test_the_seconds_of_each_call_are_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "fit", lambda *given, **named: (given, named))

    with project.timed(fit, "fit") as seconds:
        assert fit.fit(1, on_epoch=2) == ((1,), {"on_epoch": 2})
        fit.fit()

    assert len(seconds) == 2


def test_a_prepared_project_holds_what_a_training_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures, labels = images.read(30)
    project.prepare(pictures, labels, 10)

    directory = Path("data/processed/fashion-mnist")
    card = DatasetCard.read(directory)
    assert torch.equal(read_split(directory, card, "train").images, torch.from_numpy(pictures[10:]))
    assert torch.equal(read_split(directory, card, "val").labels, torch.from_numpy(labels[:10]))


@pytest.mark.slow
def test_the_start_of_a_stage_leaves_its_work_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert start_up.start("download")(Namespace())["s"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_the_predictor_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert all(figure > 0 for figure in predictor.predict(Namespace(requests=1)).values())


def test_photographs_are_listed_by_the_classes_of_train(tmp_path: Path) -> None:
    for name in ("train/ant/1.jpg", "train/bee/1.jpg", "test/bee/2.jpg", "test/bee/1.jpg", "test/ant/9.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 2)).save(tmp_path / name)

    paths, labels = photographs.files(tmp_path / "test")

    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "test/ant/9.jpg",
        "test/bee/1.jpg",
        "test/bee/2.jpg",
    ]
    assert labels.tolist() == [0, 1, 1]
    assert [image.mode for image in photographs.opened(paths)] == ["RGB"] * 3
    assert photographs.accuracy(np.array([0, 1, 0]), labels) == pytest.approx(200 / 3)


def test_other_trainers_are_not_locked() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE))

    assert not {re.split(r"\W", name)[0] for name in extras["bench"]} & locked


@pytest.mark.slow
def test_an_unknown_group_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks", "tpu"]

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert ended.returncode == 2
    assert "choose from cpu, gpu, search, serve, photos, audit" in ended.stderr.replace("'", "")
