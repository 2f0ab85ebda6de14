"""Writes docs/performance.md and its plots from the measurements in results/.

python -m benchmarks.performance
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, summary
from benchmarks.machine import PACKAGES, ROOT

GROUPS = {
    "cpu": "Training and the pipeline on a CPU",
    "gpu": "Training on a GPU",
    "search": "Hyperparameter search",
    "serve": "Serving",
    "photos": "Photographs",
    "audit": "Data audit",
    "scale": "Growth and several devices",
}
PAGE = ROOT / "docs" / "performance.md"
PICTURES = ROOT / "docs" / "images" / "performance"
MACHINE = {
    "cpu": "{}", "cores": "cores {}", "capability": "{}", "threads": "threads {}",
    "precision_as_chosen": "train.precision auto is {}", "memory_gib": "{} GiB of memory",
    "gpu": "{}", "os": "{}", "python": "Python {}", **{package: f"{package} {{}}" for package in PACKAGES},
    "load_at_start": "load {} at the start", "commit": "commit {}", "date": "{}",
}  # fmt: skip

# Cases share their ways if each has this share of all of them, on average.
SHARED = 0.3
# The ways that are not this project's are drawn in gray.
OTHERS = (
    "tutorial",
    "bare loop",
    "torchvision",
    "Lightning",
    "Keras",
    "Ultralytics",
    "airbench",
    "mlflow",
    "LitServe",
    "logistic",
    "fastai",
    "timm",
    "cleanlab",
    "cleanvision",
    "imagededup",
    "correlation",
    "perceptual hash",
)
# Of the cases that stand side by side: more would be too small to read on a page.
PANELS_PER_ROW = 3

Document = Mapping[str, Any]
Result = Mapping[str, Any]


def scripts(group: str) -> list[Path]:
    return sorted((ROOT / "benchmarks" / group).glob("*.py"))


def read(results: Path = RESULTS) -> dict[str, Document]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))}


def page(documents: Mapping[str, Document]) -> str:
    lines = [
        "# Performance",
        "",
        "`make bench` measures these values. `benchmarks/performance.py` writes this page from `benchmarks/results`.",
        "Machines differ, and their speed drifts: compare the ratios within one run. A value is the median (lowest to",
        "highest); an accuracy is the mean ± standard deviation. n is the number of measurements. The methods take",
        "turns, and each round has its own process. The first lines of [each script](../benchmarks) say what it",
        "measures.",
        "",
    ]
    absent: list[str] = []
    for group, heading in GROUPS.items():
        lines += [f"## {heading}", ""]
        for script in scripts(group):
            document = documents.get(script.stem)
            if document is None:
                absent.append(f"- {script.stem}: no run yet (`python -m benchmarks.{group}.{script.stem}`)")
                continue
            absent += _missing(document)
            if document["results"]:
                lines += [*_section(script, document), ""]
        if not any(documents.get(script.stem, {}).get("results") for script in scripts(group)):
            lines += ["Not measured; see [below](#not-measured).", ""]
    lines += ["## Not measured", "", *(absent or ["Every method of every benchmark was measured."])]
    return "\n".join(lines) + "\n"


def _missing(document: Document) -> list[str]:
    ways: dict[str, list[str]] = {}
    for entry in document.get("not_measured", []):
        ways.setdefault(entry["reason"], []).append(_way(entry))
    return [f"- {document['benchmark']} ({'; '.join(names)}): {reason}" for reason, names in ways.items()]


def _title(document: Document) -> str:
    title: str = document.get("title", document["benchmark"])
    return title


def _section(script: Path, document: Document) -> list[str]:
    name = script.stem
    title = _title(document)
    lines = [f"### {title}", ""]
    if _compares(document):
        lines += [f"![{title}](images/performance/{name}.png)", ""]
    for case, results in cases(document).items():
        lines += [*([f"{case[:1].upper()}{case[1:]}:", ""] if case else []), *_table(results, document), ""]
    return [*lines, *_goals(document), f"Conditions: {_conditions(document['conditions'])}."]


def _compares(document: Document) -> bool:
    """Whether there are several ways: one alone is no picture."""
    return len({result["name"] for result in document["results"]}) > 1


def cases(document: Document) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in document["results"]:
        found.setdefault(result.get("case", ""), []).append(result)
    return found


def _table(results: Sequence[Result], document: Document) -> list[str]:
    units = list(dict.fromkeys(result["unit"] for result in results))
    by_way: dict[str, dict[str, Sequence[float]]] = {}
    for result in results:
        by_way.setdefault(result["name"], {})[result["unit"]] = result["values"]
    baselines = [name for name in document.get("baselines", []) if name in by_way]
    lines = [
        f"| method | {' | '.join(units)} | {' | '.join([*(f'x {name}' for name in baselines), 'n'])} |",
        f"|---|{'---|' * (len(units) + len(baselines) + 1)}",
    ]
    for name, values in by_way.items():
        cells = [figure(values[unit], unit) if unit in values else "" for unit in units]
        ratios = [f"{ratio(results, name, other):.2f}" for other in baselines]
        counts = dict.fromkeys(str(len(found)) for found in values.values())
        lines.append(f"| {' | '.join([name, *cells, *ratios, ', '.join(counts)])} |")
    return lines


def figure(values: Sequence[float], unit: str) -> str:
    found = summary(values)
    if "accuracy" in unit:
        # A single run has no deviation.
        return f"{found['mean']:.2f} ± {found['sd']:.2f}" if found["n"] > 1 else f"{found['mean']:.2f}"
    if found["n"] == 1:
        return number(found["median"])
    return f"{number(found['median'])} ({number(found['low'])} to {number(found['high'])})"


def number(value: float) -> str:
    """Three digits, and all of those in front of the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ratio(results: Iterable[Result], name: str, other: str, unit: str | None = None) -> float:
    """Of the medians of two ways in ``unit``, or in the first unit of both."""
    medians: dict[str, float] = {}
    for result in results:
        if unit in (None, result["unit"]):
            medians.setdefault(result["name"], summary(result["values"])["median"])
    return medians[name] / medians[other]


def _goals(document: Document) -> list[str]:
    lines = []
    for goal in document.get("goals", []):
        results = cases(document).get(goal["case"], [])
        lines.append(_ratio_goal(goal, results) if "ratio" in goal else _bound_goal(goal, results))
    return ["| goal | bound | reached |", "|---|---|---|", *lines, ""] if lines else []


def _ratio_goal(goal: Mapping[str, Any], results: Sequence[Result]) -> str:
    name, other = goal["ratio"]
    unit = goal.get("unit")
    told = "not measured"
    if {name, other} <= {result["name"] for result in results}:
        reached = ratio(results, name, other, unit)
        told = f"{reached:.3f}, {_verdict(goal, reached)}"
    of = f" of {unit}" if unit else ""
    return f"| {_way({**goal, 'name': name})} | {_bound(goal)} x {other}{of} | {told} |"


def _bound_goal(goal: Mapping[str, Any], results: Sequence[Result]) -> str:
    told, unit = "not measured", goal["unit"]
    for result in results:
        if (result["name"], result["unit"]) == (goal["name"], unit):
            found = summary(result["values"])
            is_accuracy = "accuracy" in unit
            reached = found["mean"] if is_accuracy else found["median"]
            shown = f"{reached:.2f}" if is_accuracy else number(reached)
            told = f"{shown}, {_verdict(goal, reached)}"
    return f"| {_way(goal)} | {_bound(goal)} {unit} | {told} |"


def _bound(goal: Mapping[str, Any]) -> str:
    return f"at least {goal['at_least']:g}" if "at_least" in goal else f"at most {goal['at_most']:g}"


def _verdict(goal: Mapping[str, Any], reached: float) -> str:
    is_met = reached >= goal["at_least"] if "at_least" in goal else reached <= goal["at_most"]
    return "met" if is_met else "**missed**"


def _conditions(conditions: Mapping[str, Any]) -> str:
    own = [f"{key.replace('_', ' ')} {value}" for key, value in conditions.items() if key not in MACHINE]
    machine = [f"{words.format(conditions[key])}" for key, words in MACHINE.items() if conditions.get(key) is not None]
    return "; ".join(", ".join(part) for part in (own, machine) if part)


def _way(entry: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, [entry.get("case"), entry["name"]]))


def draw(document: Document, path: Path) -> None:
    """The medians of each case as bars, with their ranges, in the unit that was measured most often.

    Cases that share their ways stand side by side, in rows of PANELS_PER_ROW. Others stand below each other, each with
    its own ways; a case with a single way compares nothing and is left out.
    """
    from darkroom import plotting

    panels = cases(document)
    ways = {case: list(dict.fromkeys(result["name"] for result in results)) for case, results in panels.items()}
    every = list(dict.fromkeys(way for names in ways.values() for way in names))
    if is_shared := sum(map(len, ways.values())) >= SHARED * len(panels) * len(every):
        ways = dict.fromkeys(panels, every)
        columns = min(len(panels), PANELS_PER_ROW)
        rows = ceil(len(panels) / columns)
        figure = plotting.new_figure(3.0 + 3.2 * columns, 0.4 + rows * (0.7 + 0.36 * len(every)))
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    else:
        panels = {case: results for case, results in panels.items() if len(ways[case]) > 1}
        heights = [0.9 + 0.36 * len(ways[case]) for case in panels]
        figure = plotting.new_figure(9.0, 0.6 + sum(heights))
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    figure.suptitle(_title(document), x=0.01, ha="left", fontsize=12, fontweight="bold")
    for axes in grid.flatten()[len(panels) :]:
        axes.remove()
    for axes, (case, results) in zip(grid.flatten(), panels.items(), strict=False):
        unit = _unit(results)
        plotting.tidy(axes, case, unit)
        axes.grid(visible=False, axis="y")
        for result in results:
            if result["unit"] == unit:
                _bar(axes, ways[case].index(result["name"]), result)
        axes.margins(x=0.2)
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter("{x:,g}")
        if not is_shared or axes is grid[0, 0]:
            axes.set_yticks(range(len(ways[case])), ways[case])
            axes.set_ylim(len(ways[case]) - 0.4, -0.6)
    path.parent.mkdir(parents=True, exist_ok=True)
    plotting.save(figure, path)


def _unit(results: Sequence[Result]) -> str:
    counts: dict[str, int] = {}
    for result in results:
        counts[result["unit"]] = counts.get(result["unit"], 0) + len(result["values"])
    return max(counts, key=counts.__getitem__)


def _bar(axes: Any, row: int, result: Result) -> None:
    from darkroom import plotting

    found, name = summary(result["values"]), result["name"]
    middle = found["median"]
    spread = [[middle - found["low"]], [found["high"] - middle]]
    color = plotting.GRAY if name.startswith(OTHERS) else plotting.BLUE
    bars = axes.barh(row, middle, xerr=spread, color=color, height=0.6, ecolor="black", capsize=2)
    axes.bar_label(bars, [f" {number(middle)}"], fontsize=8, padding=3)


def main() -> None:
    documents = read()
    for name, document in documents.items():
        if _compares(document):
            draw(document, PICTURES / f"{name}.png")
    PAGE.write_text(page(documents), encoding="utf-8")


if __name__ == "__main__":
    main()
