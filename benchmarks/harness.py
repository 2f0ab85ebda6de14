"""Measures the ways of a benchmark in turn, each in a process of its own, and writes results/<benchmark>.json.

A benchmark is a script that hands `run` its jobs. A job is called in a fresh process, in an empty directory that
is removed afterwards, and returns figures: for each unit a number, or several. Its options hold the number of the
round, for ways that have a seed. The ways take turns, and every second round in reverse, so that a change of the
machine's load meets all of them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT

RESULTS = ROOT / "benchmarks" / "results"
# What a person has set must not change where a benchmark's runs go.
FOREIGN = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")

Figures = Mapping[str, float | list[float]]
Job = Callable[[Namespace], Figures]
Key = tuple[str, str]
Values = dict[tuple[str, str, str], list[float]]


class NotHere(Exception):  # noqa: N818 - not an error: the benchmark goes on without this way
    """Raised by a job that cannot run on this machine, with the reason."""


@dataclass(frozen=True)
class Benchmark:
    """``jobs`` by case and way; of ``baselines`` the page shows how many times as much each way reaches.

    ``conditions`` are those of the measurement, beside the machine's. A goal is a ratio of two ways' medians in a unit,
    by default the first of the results, {"case": ..., "ratio": [way, other way], "unit": ..., "at_least" or "at_most":
    number}, or a bound on one way's median, or mean accuracy, {"case": ..., "name": way, "unit": ..., "at_least" or
    "at_most": number}.
    """

    title: str
    jobs: Mapping[Key, Job]
    conditions: Mapping[str, Any]
    baselines: Sequence[str] = ()
    goals: Sequence[Mapping[str, Any]] = field(default_factory=list)


def arguments(about: str | None, *, rounds: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="how often each way is measured")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the JSON file goes")
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--round", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def run(benchmark: Benchmark, options: Namespace) -> None:
    """Measure, write and show. Exits with 1 if a way failed."""
    if options.job:
        case, way, answer = options.job
        _work(benchmark.jobs[case, way], options, Path(answer).resolve())
        return
    name = Path(sys.argv[0]).stem
    print(f"{name}: {benchmark.title}", flush=True)
    conditions = {**benchmark.conditions, **_machine()}
    values: Values = {}
    missing: dict[Key, dict[str, Any]] = {}
    for number in range(options.rounds):
        for key in turn(benchmark.jobs, number):
            if key in missing:
                continue
            answer = _measure(*key, number)
            if "figures" in answer:
                for unit, found in answer["figures"].items():
                    values.setdefault((*key, unit), []).extend(rounded(found))
            else:
                missing[key] = answer
            print(f"  round {number + 1} {_told(key)}: {_shown(answer)}", flush=True)
        # After each round: one that is interrupted takes nothing of the earlier ones with it.
        write({"benchmark": name} | _document(benchmark, conditions, values, missing), options.results / f"{name}.json")
    if any(answer["failed"] for answer in missing.values()):
        sys.exit(1)


def _document(
    benchmark: Benchmark, conditions: Mapping[str, Any], values: Values, missing: Mapping[Key, Mapping[str, Any]]
) -> dict[str, Any]:
    ordered: Values = {
        (case, way, unit): found
        for case, way in benchmark.jobs
        for (*key, unit), found in values.items()
        if key == [case, way]
    }
    return {
        "title": benchmark.title,
        "conditions": conditions,
        "baselines": list(benchmark.baselines),
        "results": listed(ordered),
        "not_measured": [{"case": case, "name": way, **answer} for (case, way), answer in missing.items()],
        "goals": list(benchmark.goals),
    }


def listed(values: Values) -> list[dict[str, Any]]:
    """The results of a document, each with its summary."""
    return [
        {"case": case, "name": way, "unit": unit, "values": found, **summary(found)}
        for (case, way, unit), found in values.items()
    ]


def turn(jobs: Iterable[Key], number: int) -> list[Key]:
    """The order of a round."""
    order = list(jobs)
    return order if number % 2 == 0 else order[::-1]


def summary(values: Sequence[float]) -> dict[str, float]:
    return {
        "n": len(values),
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
    }


def write(document: Mapping[str, Any], path: Path) -> None:
    """Write the results, unless they are none and would take the place of some."""
    if not document["results"] and path.exists() and json.loads(path.read_text(encoding="utf-8"))["results"]:
        print(f"  nothing was measured; {path} keeps what an earlier run measured")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _work(job: Job, options: Namespace, answer: Path) -> None:
    """The part of the child: its figures go to a file, since libraries print to stdout what they like."""
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            told = {"figures": job(options)}
        except NotHere as reason:
            told = {"reason": str(reason), "failed": False}
        except ModuleNotFoundError as problem:
            if str(problem.name).startswith(("darkroom", "benchmarks")):
                raise
            told = {"reason": f"{problem.name} is not installed", "failed": False}
        finally:
            os.chdir(ROOT)
    answer.write_text(json.dumps(told), encoding="utf-8")


def _measure(case: str, way: str, number: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        answer = Path(place) / "answer.json"
        command = [sys.executable, sys.argv[0], *sys.argv[1:], "--job", case, way, str(answer), "--round", str(number)]
        ended = subprocess.run(command, env=_environment(), capture_output=True, text=True, errors="replace")
        if ended.returncode or not answer.exists():
            print(ended.stderr, file=sys.stderr)
            last = (ended.stderr.strip().splitlines() or ["without a word"])[-1]
            return {"reason": f"failed: {last}", "failed": True}
        told: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return told


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    silent = {"MLFLOW_DISABLE_TELEMETRY": "true", "ORT_DISABLE_TELEMETRY": "1", "DVC_NO_ANALYTICS": "true"}
    return kept | silent | {"PYTHONPATH": path}


def _machine() -> dict[str, Any]:
    """Asked of a child: what this process had held in memory would count as the peak of those it starts."""
    load = round(os.getloadavg()[0], 2)
    command = [sys.executable, "-m", "benchmarks.machine"]
    ended = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=True)
    return json.loads(ended.stdout) | {"load_at_start": load}


def _told(key: Key) -> str:
    return ", ".join(filter(None, key))


def _shown(answer: Mapping[str, Any]) -> str:
    if "figures" not in answer:
        return f"not measured, {answer['reason']}"
    return "; ".join(f"{_number(found)} {unit}" for unit, found in answer["figures"].items())


def _number(found: float | list[float]) -> str:
    return " ".join(f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" for value in rounded(found))


def rounded(found: float | list[float]) -> list[float]:
    """Values to six digits: more are noise, and the files are kept."""
    return [float(f"{value:.6g}") for value in (found if isinstance(found, list) else [found])]
