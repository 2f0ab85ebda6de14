"""Run recipes with several seeds and write what they reach to recipes/measured.json and docs/recipes.md.

    python benchmarks/recipes.py measure fashion-mnist-cnn64 mnist-mlp --seeds 3
    python benchmarks/recipes.py measure cifar10-cnn64 --set dataset.name=folder --set dataset.path=cifar10.tar.xz
    python benchmarks/recipes.py page

Each recipe goes through the stages as `dvc repro` runs them, in build/recipes/<name>, with an MLflow store of
its own. The data are prepared once, then each seed trains and is measured on the test split. A run that is
there already is not repeated: delete its line from measured.json to measure it again. `page` writes
docs/recipes.md from what was measured.
"""

import argparse
import csv
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from ruamel.yaml import YAML
from scipy.stats import binomtest

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "recipes" / "measured.json"
PAGE = ROOT / "docs" / "recipes.md"
PICTURES = ROOT / "docs" / "images" / "recipes"
PREPARATION = ("download", "preprocess", "search")
SHOWN = {"curves.png": "train", "confusion_matrix.png": "evaluate"}


def measure(name: str, seeds: int, changes: dict[str, str]) -> None:
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
        entry["conditions"] = conditions(workspace)
        if seed == 0:
            keep_pictures(name, workspace)
        latest = read_measured() | {name: entry}  # another recipe may have been measured meanwhile
        MEASURED.write_text(json.dumps(dict(sorted(latest.items())), indent=2) + "\n", encoding="utf-8")


def read_measured() -> dict:
    return json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}


def write_params(name: str, workspace: Path, changes: dict[str, str]) -> None:
    yaml = YAML()
    settings = yaml.load(ROOT / "recipes" / f"{name}.yaml")
    for key, value in changes.items():
        section, _, setting = key.partition(".")
        settings[section][setting] = YAML(typ="safe").load(value)
    yaml.dump(settings, workspace / "params.yaml")


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


def processor() -> str:
    """What the processor calls itself; platform.processor() is often empty or only the architecture."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def keep_pictures(name: str, workspace: Path) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    for picture, stage in SHOWN.items():
        shutil.copyfile(workspace / "reports" / stage / picture, PICTURES / f"{name}-{picture}")


def page() -> None:
    measured = read_measured()
    recipes = {path.stem: YAML(typ="safe").load(path) for path in sorted((ROOT / "recipes").glob("*.yaml"))}
    lines = [
        "# Recipes",
        "",
        "Complete experiments to start from. `darkroom recipe list` shows them, `darkroom recipe use NAME` makes one",
        "your `params.yaml`, `dvc repro` runs it. The figures below were measured by `benchmarks/recipes.py`, which",
        "also wrote this page; every accuracy is that of the published test split, read once at the end of each run.",
        "",
        *summary(recipes, measured),
        "",
        "sd is the standard deviation over the seeds, of the weights, the order of the images, dropout and",
        "augmentation; the interval is the 95 % Wilson interval of the run with seed 0. Seconds are those of the",
        "train stage, its start included: their median.",
        "",
    ]
    unmeasured = [name for name in recipes if not measured.get(name, {}).get("runs")]
    if unmeasured:
        lines += [
            f"Not measured: {', '.join(f'`{name}`' for name in unmeasured)}. They are meant for a GPU or for images of",
            "your own; a test trains each for one batch, and nothing is claimed for them.",
            "",
        ]
    for name, recipe in recipes.items():
        lines += details(name, recipe, measured.get(name))
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def summary(recipes: dict, measured: dict) -> list[str]:
    lines = ["| recipe | dataset | model | test accuracy, % | n | epochs | seconds |", "|---|---|---|---|---|---|---|"]
    for name, recipe in recipes.items():
        runs = measured.get(name, {}).get("runs")
        figures = ["not measured", "", "", ""]
        if runs:
            epochs = sorted({run["epochs"] for run in runs})
            span = str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
            seconds = statistics.median(run["train_seconds"] for run in runs)
            figures = [mean_and_sd(runs, "accuracy"), str(len(runs)), span, f"{seconds:,.0f}"]
        cells = [f"[`{name}`](#{name})", recipe["dataset"]["name"], recipe["model"]["name"], *figures]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def mean_and_sd(runs: list[dict], key: str) -> str:
    values = [100 * run[key] for run in runs]
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def details(name: str, recipe: dict, entry: dict | None) -> list[str]:
    lines = [f"## {name}", "", f"{recipe['recipe']['about']}. [Settings](../recipes/{name}.yaml)", ""]
    if not entry or not entry["runs"]:
        return [*lines, "Not measured.", ""]
    runs, facts = entry["runs"], entry["conditions"]
    first = runs[0]
    interval = binomtest(round(first["accuracy"] * first["images"]), first["images"]).proportion_ci(method="wilson")
    each = ", ".join(f"{100 * run['accuracy']:.2f}" for run in runs)
    lines += [
        f"- test accuracy {mean_and_sd(runs, 'accuracy')} % (n = {len(runs)}: {each}); seed {first['seed']}: "
        f"{100 * interval.low:.2f} to {100 * interval.high:.2f} % (Wilson)",
    ]
    if "tta_accuracy" in first:
        lines.append(
            f"- with test-time augmentation ({recipe['evaluate']['tta']}): {mean_and_sd(runs, 'tta_accuracy')} %"
        )
    seconds = ", ".join(f"{run['train_seconds']:,.0f}" for run in runs)
    lines += [
        f"- {first['parameters']:,} parameters; epochs {', '.join(str(run['epochs']) for run in runs)}, best "
        f"{', '.join(str(run['best_epoch']) for run in runs)}; training {seconds} s, preparation of the data "
        f"{entry['preparation_seconds']:,.0f} s",
        f"- {facts['device']}, {facts['threads']} threads, {facts['precision']}, torch {facts['torch']}, torchvision "
        f"{facts['torchvision']}, Python {facts['python']}, {facts['date']}",
    ]
    if entry["changes"]:
        told = ", ".join(f"`{key}: {value}`" for key, value in entry["changes"].items())
        lines.append(f"- measured with {told}")
    if "note" in entry:
        lines.append(f"- {entry['note']}")
    pictures = " | ".join(f"![{name}: {picture}](images/recipes/{name}-{picture})" for picture in SHOWN)
    return [*lines, "", f"| {pictures} |", "|---|---|", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure", help="run recipes")
    measuring.add_argument("names", nargs="+")
    measuring.add_argument("--seeds", type=int, default=3)
    measuring.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change a setting")
    commands.add_parser("page", help="write docs/recipes.md")
    options = parser.parse_args()
    if options.command == "measure":
        changes = dict(change.split("=", 1) for change in options.set)
        for name in options.names:
            measure(name, options.seeds, changes)
    page()


if __name__ == "__main__":
    main()
