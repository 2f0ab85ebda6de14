"""The report of a search: its result as JSON, its trials as CSV, its plots, and a page in Markdown."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from optuna import Study

from darkroom import plotting
from darkroom.config import Config
from darkroom.models.registry import resolve
from darkroom.search import parameter_plots, plots, table
from darkroom.search.attributes import DUPLICATE, FAILURE
from darkroom.search.repeats import Candidate
from darkroom.search.significance import SeedComparison
from darkroom.search.space import from_optuna
from darkroom.search.study import best_trial, monitored, ranked, used_trials
from darkroom.utils import markdown
from darkroom.utils.csv_files import open_csv
from darkroom.utils.files import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# MLflow takes no longer text than 8,000 characters as a description.
MAX_ROWS = 15
SECOND = {"parameters": "parameters", "latency": "latency, ms"}


def result(study: Study, config: Config, fingerprint: str, comparison: SeedComparison) -> dict[str, Any]:
    """What best_params.json holds: the settings that won, and what their lead is worth.

    They are those of the best mean over seeds; where none were trained again, those of the best trial.
    ``fingerprint`` is the data's. Raises SearchError if no trial was completed.
    """
    best, winner, used = best_trial(study), comparison.winner, used_trials(study)
    found: dict[str, Any] = {
        "params": winner.settings if winner else _settings(best.params),
        "value": fmean(winner.values) if winner else monitored(best),
        "monitor": config.train.monitor,
        "trial": winner.trial if winner else best.number,
        "trials": len(used),
        "states": _states(study),
        "study": study.study_name,
        "fingerprint": fingerprint,
        "evidence": comparison.as_dict(),
    }
    if len(study.directions) > 1:
        found["front"] = [
            {"trial": trial.number, "values": list(trial.values), "params": _settings(trial.params)}
            for trial in ranked(study)
        ]
    return found


def write(
    directory: Path, study: Study, config: Config, found: Mapping[str, Any], comparison: SeedComparison, ending: str
) -> None:
    """Fill ``directory``. ``found`` is what ``result`` gave, ``ending`` why no more trials were begun."""
    write_json(directory / "summary.json", found)
    with open_csv(directory / "trials.csv") as opened:
        table.write_csv(study, opened)
    drawn = {name: figure for name, figure in _figures(study, config, comparison).items() if figure is not None}
    for name, figure in drawn.items():
        plotting.save(figure, directory / f"{name}.png")
    text = page(study, config, found, comparison, ending)
    pictures = [f"![{name.replace('_', ' ')}]({name}.png)" for name in drawn]
    (directory / "report.md").write_text("\n\n".join([text, "## Plots", *pictures]) + "\n", encoding="utf-8")


def page(study: Study, config: Config, found: Mapping[str, Any], comparison: SeedComparison, ending: str) -> str:
    """The study in Markdown, without its pictures."""
    parts = [
        f"# Search: {config.model.name} on {config.dataset.name}",
        comparison.verdict if comparison.winner else f"{_sentence(found)} {comparison.verdict}",
        _candidates(comparison),
        "The interval covers the noise of seeds, on one validation split; the test split was not used."
        if comparison.gain and comparison.gain.low is not None
        else "",
        "## Settings",
        _beside(config, found["params"]),
        _front(config, found) if "front" in found else "",
        "## Trials",
        f"{_counted(found['states'])}, in the study {study.study_name}. The search ended: {ending}.",
        _first_failure(study),
    ]
    return "\n\n".join(part for part in parts if part)


def _sentence(found: Mapping[str, Any]) -> str:
    return f"Trial {found['trial']} has the best validation {found['monitor']}, {found['value']:.4f}."


def _candidates(comparison: SeedComparison) -> str:
    if not comparison.candidates:
        return ""
    # Those that the verdict speaks of come first: they must not be among the ones left out.
    shown_first = (comparison.winner, comparison.start)
    ordered = sorted(comparison.candidates, key=lambda each: all(each is not first for first in shown_first))
    lines = [_line(each, comparison) for each in ordered[:MAX_ROWS]]
    if len(comparison.candidates) > MAX_ROWS:
        lines.append([f"and {len(comparison.candidates) - MAX_ROWS} more", "", "", ""])
    return markdown.table(["configuration", f"validation {comparison.monitor}, mean ± sd", "n", "failed"], lines)


def _line(candidate: Candidate, comparison: SeedComparison) -> list[str]:
    values = candidate.values
    mean = f"{fmean(values):.4f}" if values else "none"
    spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
    name = f"**{candidate.label}**" if candidate is comparison.winner else candidate.label
    return [name, mean + spread, str(len(values)), candidate.failures[0] if candidate.failures else ""]


def _beside(config: Config, params: Mapping[str, Any]) -> str:
    """The settings of the space as written, and as they are now."""
    written = {**config.flat(), **{f"model.{key}": value for key, value in resolve(config.model).items()}}
    lines = [
        [f"`{key}`", _shown(written[key]), _shown(params[key]) if key in params else "as written"]
        for key in config.search.space.flat()
    ]
    return markdown.table(["setting", "as written", "best"], lines)


def _front(config: Config, found: Mapping[str, Any]) -> str:
    second = SECOND[config.search.second_objective]
    lines = [
        [str(each["trial"]), f"{each['values'][0]:.4f}", f"{each['values'][1]:,.6g}"]
        for each in found["front"][:MAX_ROWS]
    ]
    return "No other trial beats these in both objectives:\n\n" + markdown.table(
        ["trial", f"validation {config.train.monitor}", second], lines
    )


def _counted(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items())


def _first_failure(study: Study) -> str:
    reasons = [trial.user_attrs[FAILURE] for trial in used_trials(study) if FAILURE in trial.user_attrs]
    return f"The first that failed: {reasons[0]}." if reasons else ""


def _states(study: Study) -> dict[str, int]:
    """How many trials are in each state, and how many of them had another's parameters."""
    found = Counter(row.state for row in table.rows(study))
    duplicates = sum(DUPLICATE in trial.user_attrs for trial in used_trials(study))
    return {**found, **({"duplicate": duplicates} if duplicates else {})}


def _figures(study: Study, config: Config, comparison: SeedComparison) -> dict[str, "Figure | None"]:
    monitor, second = config.train.monitor, config.search.second_objective
    return {
        "repeats": plots.repeats(comparison),
        "history": plots.history(study, monitor),
        "pareto_front": None if second == "none" else plots.front(study, monitor, SECOND[second]),
        "curves": plots.curves(study, monitor),
        "importances": parameter_plots.importances(study),
        "slices": parameter_plots.slices(study, monitor),
        "parallel_coordinates": parameter_plots.parallel_coordinates(study, monitor),
    }


def _settings(params: Mapping[str, Any]) -> dict[str, Any]:
    return {key: from_optuna(value) for key, value in params.items()}


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
