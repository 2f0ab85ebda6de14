"""The trials of a study as a table: what was tried, what became of it, and what it came to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from darkroom.search.attributes import AGAIN, DUPLICATE, FAILURE, INTERRUPTED, OWNER
from darkroom.utils.csv_files import SpreadsheetWriter
from darkroom.utils.process_id import is_gone

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True)
class Row:
    """A trial. ``values`` are its objectives, the last epoch's metric if it was pruned; ``seconds`` until it ended.

    ``state`` is complete, pruned, failed, interrupted, running or waiting, ``note`` what else there is to say of it.
    """

    number: int
    state: str
    note: str
    values: tuple[float, ...]
    epochs: int
    seconds: float | None
    settings: Mapping[str, Any]
    is_best: bool

    @property
    def outcome(self) -> str:
        """The state and the note."""
        return f"{self.state}{': ' if self.state == 'failed' and self.note else ' ' if self.note else ''}{self.note}"


def rows(study: optuna.Study) -> list[Row]:
    """All trials in the order of their numbers."""
    trials = study.get_trials(deepcopy=False)
    hidden = set(study.user_attrs.get(INTERRUPTED, []))
    best = _best(study, trials)
    return [_row(trial, trial.number in hidden, trial.number in best) for trial in trials]


def objectives(study: optuna.Study) -> list[str]:
    """What the columns of the values are called."""
    return ["value", "cost"][: len(study.directions)]


def write_csv(study: optuna.Study, target: TextIO) -> None:
    """All trials, with each setting in a column of its own."""
    found, names = rows(study), objectives(study)
    keys = _keys(found)
    table = SpreadsheetWriter(target)
    table.writerow(["trial", "state", *names, "epochs", "seconds", *keys, "note"])
    for row in found:
        values = [*row.values, *[""] * len(names)][: len(names)]
        settings = [row.settings.get(key, "") for key in keys]
        seconds = "" if row.seconds is None else round(row.seconds, 3)
        table.writerow([row.number, row.state, *values, row.epochs, seconds, *settings, row.note])


def as_json(study: optuna.Study) -> dict[str, Any]:
    """The study and all its trials as an object of JSON."""
    return {
        "study": study.study_name,
        "directions": [direction.name.lower() for direction in study.directions],
        "trials": [
            {
                "trial": row.number,
                "state": row.state,
                "note": row.note,
                "best": row.is_best,
                "values": list(row.values),
                "epochs": row.epochs,
                "seconds": row.seconds,
                "settings": dict(row.settings),
            }
            for row in rows(study)
        ],
    }


def show(study: optuna.Study, console: Console) -> None:
    """Print the trials, each setting in a column of its own where there is room for that."""
    found = rows(study)
    wide = _table(study, found, _keys(found))
    needed = console.measure(wide, options=console.options.update(width=10_000)).minimum
    console.print(wide if needed <= console.width else _table(study, found, []), soft_wrap=False)
    counts = {state: sum(row.state == state for row in found) for state in dict.fromkeys(row.state for row in found)}
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    console.print(f"{study.study_name}: {states or 'no trial yet'}.")


def _table(study: optuna.Study, found: Sequence[Row], keys: Sequence[str]) -> Table:
    names = objectives(study)
    table = Table("trial", *names, "epochs", "seconds", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns:
        column.justify, column.no_wrap = "right", True
    table.add_column("state", overflow="fold", min_width=22)
    for heading in keys or ["settings"]:
        table.add_column(heading, overflow="fold", no_wrap=bool(keys))
    for row in found:
        values = [*(f"{value:.0f}" if value >= 1000 else f"{value:.4f}" for value in row.values), *[""] * len(names)]
        settings = [_text(row.settings.get(key, "")) for key in keys]
        if not keys:
            settings = [in_one_line(row.settings)]
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        outcome = f"{row.outcome}, best single value" if row.is_best and len(names) == 1 else row.outcome
        outcome = f"{row.outcome}, on the front" if row.is_best and len(names) > 1 else outcome
        table.add_row(
            str(row.number),
            *values[: len(names)],
            str(row.epochs),
            seconds,
            outcome,
            *settings,
            style="bold" if row.is_best else "",
        )
    return table


def in_one_line(settings: Mapping[str, Any]) -> str:
    """Settings {"section.key": value} as a person reads them, such as lr 0.001, dropout 0.2."""
    return ", ".join(f"{key.rpartition('.')[2]} {_text(value)}" for key, value in settings.items())


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _keys(found: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in found for key in row.settings))


def _row(trial: FrozenTrial, is_interrupted: bool, is_best: bool) -> Row:
    state, notes = STATES[trial.state], []
    if is_interrupted or (trial.state is TrialState.RUNNING and is_gone(str(trial.user_attrs.get(OWNER, "")))):
        state = "interrupted"
    if state == "pruned" and trial.last_step is not None:
        notes.append(f"after epoch {trial.last_step}")
    if state == "failed":
        notes.append(str(trial.user_attrs.get(FAILURE, "")))
    if DUPLICATE in trial.user_attrs:
        notes.append(f"(duplicate of {trial.user_attrs[DUPLICATE]})")
    if AGAIN in trial.user_attrs:
        notes.append(f"(again, for {trial.user_attrs[AGAIN]})")
    seconds = None
    if trial.datetime_start and trial.datetime_complete:
        seconds = (trial.datetime_complete - trial.datetime_start).total_seconds()
    return Row(
        number=trial.number,
        state=state,
        note=" ".join(note for note in notes if note),
        values=tuple(trial.values or ()),
        epochs=len(trial.intermediate_values),
        seconds=seconds,
        settings=trial.params or trial.system_attrs.get("fixed_params", {}),
        is_best=is_best,
    )


def _best(study: optuna.Study, trials: Sequence[FrozenTrial]) -> set[int]:
    """The best trial's number; of two objectives those of the Pareto front."""
    if len(study.directions) > 1:
        return {trial.number for trial in study.best_trials}
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    choose = max if study.direction is StudyDirection.MAXIMIZE else min
    best = choose(complete, key=lambda trial: float(trial.values[0]), default=None)
    return set() if best is None else {best.number}
