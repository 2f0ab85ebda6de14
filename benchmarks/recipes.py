"""Run recipes with several seeds and write what they reach to recipes/measured.json and docs/recipes.md.

    python -m benchmarks.recipes measure fashion-mnist-cnn64 mnist-mlp --seeds 3
    python -m benchmarks.recipes measure cifar10-cnn64 --set dataset.name=folder --set dataset.path=cifar10.tar.xz
    python -m benchmarks.recipes page

Each recipe goes through the stages as `dvc repro` runs them, in build/recipes/<name>, with an MLflow store of
its own. The data are prepared once, then each seed trains and is measured on the test split. A run that is
there already is not repeated: delete its line from measured.json to measure it again. `page` writes
docs/recipes.md from what was measured.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.machine import processor
from ruamel.yaml import YAML

from darkroom.commands.params.template import render
from darkroom.commands.recipes import Measured, RecipeFile, read_recipes
from darkroom.config.bounded_yaml import read_yaml
from darkroom.workspace import Workspace

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "recipes" / "measured.json"
PAGE = ROOT / "docs" / "recipes.md"
PICTURES = ROOT / "docs" / "images" / "recipes"
PREPARATION = ("download", "preprocess", "search")
SHOWN = {"curves.png": "train", "confusion_matrix.png": "evaluate"}


def measure(name: str, seeds: int, changes: dict[str, str], note: str | None) -> None:
    workspace = ROOT / "build" / "recipes" / name
    workspace.mkdir(parents=True, exist_ok=True)
    measured = read_measured()
    # Where a file lay is nobody's business but this machine's.
    told = {key: Path(value).name if Path(value).exists() else value for key, value in changes.items()}
    entry = measured.setdefault(name, {"changes": told, "runs": []})
    if entry["changes"] != told:
        sys.exit(f"{name} was measured with {entry['changes']}; delete its entry in {MEASURED} to begin anew")
    done = {run["seed"] for run in entry["runs"]}
    prepared = False
    for seed in (seed for seed in range(seeds) if seed not in done):
        write_params(name, workspace, changes | {"train.seed": str(seed)})
        if not prepared:
            start = time.perf_counter()
            for stage in PREPARATION:
                darkroom(stage, workspace)
            prepared = True
            entry["preparation_seconds"] = round(time.perf_counter() - start, 1)
        run = train_and_evaluate(seed, workspace)
        print(f"{name} seed {seed}: test accuracy {run['accuracy']:.4f} in {run['train_seconds']:.0f} s", flush=True)
        entry["runs"].append(run)
        entry["conditions"] = conditions(workspace) | ({"note": note} if note else {})
        if seed == 0:
            keep_pictures(name, workspace)
        latest = read_measured() | {name: entry}  # another recipe may have been measured meanwhile
        MEASURED.write_text(json.dumps(dict(sorted(latest.items())), indent=2) + "\n", encoding="utf-8")


def read_measured() -> dict:
    return json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}


def write_params(name: str, workspace: Path, changes: dict[str, str]) -> None:
    settings = read_yaml(ROOT / "recipes" / f"{name}.yaml")
    for key, value in changes.items():
        section, _, setting = key.partition(".")
        settings.setdefault(section, {})[setting] = YAML(typ="safe").load(value)
    (workspace / "params.yaml").write_text(render(settings), encoding="utf-8")


def darkroom(stage: str, workspace: Path) -> None:
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{workspace / 'mlflow.db'}"}
    ended = subprocess.run(
        [sys.executable, "-m", "darkroom", stage], cwd=workspace, env=environment, capture_output=True, text=True
    )
    if ended.returncode:
        sys.exit(f"{workspace.name}: {stage} failed\n{ended.stderr}")


def train_and_evaluate(seed: int, workspace: Path) -> dict:
    start = time.perf_counter()
    darkroom("train", workspace)
    train_seconds = time.perf_counter() - start
    darkroom("evaluate", workspace)
    training = json.loads((workspace / "reports" / "train" / "metrics.json").read_text())
    figures = json.loads((workspace / "reports" / "evaluate" / "metrics.json").read_text())
    with (workspace / "reports" / "train" / "history.csv").open() as opened:
        epochs = len(list(csv.DictReader(opened)))
    kept = ("accuracy", "accuracy_low", "accuracy_high", "tta_accuracy", "images")
    return {
        "seed": seed,
        **{key: figures[key] for key in kept if key in figures},
        "epochs": epochs,
        "best_epoch": training["best_epoch"],
        "parameters": training["parameters"],
        "train_seconds": round(train_seconds, 1),
    }


def conditions(workspace: Path) -> dict:
    facts = json.loads((workspace / "models" / "model.json").read_text())["facts"]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": processor() if facts["system.device"] == "cpu" else facts["system.device_name"],
        "threads": facts["system.threads"],
        "precision": facts["system.precision"],
        "python": facts["system.python"],
        **{package: facts[f"system.{package}"] for package in ("torch", "torchvision", "darkroom")},
    }


def keep_pictures(name: str, workspace: Path) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    for picture, stage in SHOWN.items():
        shutil.copyfile(workspace / "reports" / stage / picture, PICTURES / f"{name}-{picture}")


def page() -> None:
    recipes = read_recipes(Workspace(ROOT))
    lines = [
        "# Recipes",
        "",
        "Recipes are experiments to start from. `darkroom recipe list` lists them, `darkroom recipe use NAME`",
        "writes one to your `params.yaml`, and `dvc repro` runs it. `benchmarks/recipes.py` measured the values below",
        "and wrote this page. Every accuracy is that of the test split, which is read once at the end of each run.",
        "",
        *summary(recipes),
        "",
        "sd is the standard deviation over the seeds. A seed sets the weights, the order of the images, dropout and",
        "augmentation. The intervals below are 95 % Wilson intervals of one run. Seconds are the median time of the",
        "train stage, including its start.",
        "",
    ]
    unmeasured = [name for name, recipe in recipes.items() if not recipe.measured]
    if unmeasured:
        lines += [
            f"Not measured: {', '.join(f'`{name}`' for name in unmeasured)}.",
            "These recipes are meant for a GPU or for your own images. A test trains each for one batch; no result is",
            "claimed for them.",
            "",
        ]
    for name, recipe in recipes.items():
        about = f"{recipe.config.recipe.about}. [Settings](../recipes/{name}.yaml)"
        lines += [f"## {name}", "", about, "", *(details(recipe) if recipe.measured else ["Not measured."]), ""]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def summary(recipes: dict[str, RecipeFile]) -> list[str]:
    lines = [
        "| recipe | dataset | model | test accuracy, % (mean ± sd) | n | epochs | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, recipe in recipes.items():
        figures = ["not measured", "", "", ""]
        if measured := recipe.measured:
            epochs = sorted({run["epochs"] for run in measured.runs})
            span = str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
            figures = [measured.percent(), str(len(measured.runs)), span, f"{measured.train_seconds:,.0f}"]
        cells = [f"[`{name}`](#{name})", recipe.config.dataset.name, recipe.config.model.name, *figures]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def details(recipe: RecipeFile) -> list[str]:
    measured, facts = recipe.measured, recipe.measured.conditions
    first = measured.runs[0]
    low, high = 100 * first["accuracy_low"], 100 * first["accuracy_high"]
    lines = [
        f"- test accuracy {measured.percent()} % (n = {len(measured.runs)}: {each(measured, 'accuracy', 100, '.2f')}); "
        f"seed {first['seed']}: {low:.2f} to {high:.2f} % (Wilson, {first['images']:,} images)"
    ]
    if "tta_accuracy" in first:
        augmented = each(measured, "tta_accuracy", 100, ".2f")
        tta = recipe.config.evaluate.tta
        lines.append(f"- with test-time augmentation ({tta}) {measured.percent('tta_accuracy')} % ({augmented})")
    lines += [
        f"- {first['parameters']:,} parameters; epochs {each(measured, 'epochs')}, best {each(measured, 'best_epoch')}",
        f"- training {each(measured, 'train_seconds', 1, ',.0f')} s, data preparation "
        f"{measured.preparation_seconds:,.0f} s",
        f"- {measured.device}; torch {facts['torch']}, torchvision {facts['torchvision']}, Python {facts['python']}; "
        f"{facts['date']}{'; ' + facts['note'] if 'note' in facts else ''}",
    ]
    if measured.changes:
        told = ", ".join(f"`{key}: {value}`" for key, value in measured.changes.items())
        lines.append(f"- measured with {told}")
    pictures = " | ".join(f"![{recipe.name}, {picture}](images/recipes/{recipe.name}-{picture})" for picture in SHOWN)
    return [*lines, "", f"| {pictures} |", "|---|---|"]


def each(measured: Measured, key: str, scale: float = 1, form: str = "") -> str:
    return ", ".join(format(run[key] * scale if scale != 1 else run[key], form) for run in measured.runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure", help="run recipes")
    measuring.add_argument("names", nargs="+")
    measuring.add_argument("--seeds", type=int, default=3)
    measuring.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change a setting")
    measuring.add_argument("--note", help="more about the conditions, such as other work on the machine")
    commands.add_parser("page", help="write docs/recipes.md")
    options = parser.parse_args()
    if options.command == "measure":
        changes = dict(change.split("=", 1) for change in options.set)
        for name in options.names:
            measure(name, options.seeds, changes, options.note)
    page()


if __name__ == "__main__":
    main()
