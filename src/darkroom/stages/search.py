"""Stage 3: search hyperparameters and write what was found."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.progress import Progress as RichProgress

from darkroom import drawing
from darkroom.config import Config
from darkroom.console import messages, progress, warn
from darkroom.data.cache import DatasetCard
from darkroom.files import atomic_directory, write_json
from darkroom.search import figures, landscape
from darkroom.search.attributes import DUPLICATE, FAILURE
from darkroom.search.conductor import Conductor
from darkroom.search.executors import make_seats
from darkroom.search.plan import plan
from darkroom.search.source import TrialSource
from darkroom.search.space import check_space, from_optuna
from darkroom.search.study import Start, best_trial, journal, monitored, open_study, ranked, used_trials
from darkroom.tracking.facts import system_facts
from darkroom.tracking.runs import Run, epoch_metrics
from darkroom.tracking.tracker import Tracker
from darkroom.tracking.trials import TrialRuns
from darkroom.training.device import choose_device, choose_precision
from darkroom.training.loop import EpochMetrics
from darkroom.workspace import Workspace

RUN_ATTRIBUTE = "darkroom_run"


def run(config: Config, workspace: Workspace, start: Start = "matching") -> None:
    """Write models/search/best_params.json and reports/search. Raises SearchError, CacheError or TrackingError."""
    if config.search.trials == 0:
        write_json(workspace.best_params, {"params": {}, "trials": 0})
        with atomic_directory(workspace.report("search")) as directory:
            write_json(directory / "summary.json", {"trials": 0})
        messages.print("search: skipped (search.trials is 0); the settings are used as written")
        return
    check_space(config)
    choose_device(config.train.device)
    directory = workspace.processed(config.dataset.name)
    _Search(config, DatasetCard.read(directory)).run(workspace, start)


class _Search:
    """A study and its parent run in MLflow."""

    def __init__(self, config: Config, card: DatasetCard) -> None:
        self.config = config
        self.card = card

    def run(self, workspace: Workspace, start: Start) -> None:
        config = self.config
        study = open_study(journal(workspace.study_journal), config, self.card, start)
        name, key = f"search {config.model.name} on {self.card.name}", study.user_attrs.get(RUN_ATTRIBUTE)
        with (
            Tracker(config.tracking, workspace.spools) as tracker,
            tracker.start(name, "search", key=key) as parent,
            progress() as display,
        ):
            study.set_user_attr(RUN_ATTRIBUTE, parent.key)
            self._describe(parent)
            source, epochs = TrialSource(study, config), config.search.epochs or config.train.epochs
            planned = plan(config, self.card, choose_device(config.train.device))
            if planned.note:
                warn(planned.note)
            directory = workspace.processed(config.dataset.name)
            with (
                TrialRuns(tracker, parent) as runs,
                make_seats(config, directory, planned.workers, planned.capacity) as seats,
            ):
                Conductor(source, config, seats, _Watch(runs, study, config, display, epochs), epochs).run()
            tracker.finish_import()
            best = best_trial(study)
            result = self._result(study, best)
            with atomic_directory(workspace.report("search")) as directory:
                self._report(study, result, directory)
            parent.log_metrics({f"best/{config.train.monitor}": result["value"], "trials": float(result["trials"])})
            parent.log_tags({"best_params": result["params"]})
            parent.log_directory(workspace.report("search"), "search")
            write_json(workspace.best_params, result)
        messages.print(f"search: best validation {config.train.monitor} {result['value']:.4f} with {result['params']}")

    def _describe(self, parent: Run) -> None:
        config = self.config
        device = choose_device(config.train.device)
        flat = config.flat()
        parent.log_params(
            {key: flat[key] for key in flat if key.split(".")[0] in {"dataset", "model", "train", "augment", "search"}}
        )
        parent.log_tags(system_facts(device, choose_precision(config.train, device)))
        parent.log_dataset(self.card, "search")

    def _result(self, study: optuna.Study, best: FrozenTrial) -> dict[str, Any]:
        used = used_trials(study)
        states = {state.name.lower(): sum(trial.state is state for trial in used) for state in TrialState}
        return {
            "params": {key: from_optuna(value) for key, value in best.params.items()},
            "value": monitored(best),
            "monitor": self.config.train.monitor,
            "trial": best.number,
            "trials": len(used),
            "states": {state: count for state, count in states.items() if count},
            "study": study.study_name,
            "fingerprint": self.card.fingerprint,
        }

    def _report(self, study: optuna.Study, result: dict[str, Any], directory: Path) -> None:
        write_json(directory / "summary.json", result)
        drawing.save(figures.history(study, self.config.train.monitor), directory / "history.png")
        important = landscape.importances(study)
        if important:
            drawing.save(important, directory / "importances.png")
        keys = list(self.config.search.space.flat())
        with (directory / "trials.csv").open("w", newline="", encoding="utf-8") as opened:
            table = csv.writer(opened)
            table.writerow(["trial", "state", "value", "epochs", *keys, "reason"])
            for trial in used_trials(study):
                values = [trial.params.get(key, "") for key in keys]
                epochs = len(trial.intermediate_values)
                reason = trial.user_attrs.get(FAILURE, "")
                table.writerow([trial.number, trial.state.name.lower(), monitored(trial), epochs, *values, reason])


class _Watch:
    """Shows the trials and logs each as a child run with a curve of its own."""

    def __init__(
        self, runs: TrialRuns, study: optuna.Study, config: Config, display: RichProgress, epochs: int
    ) -> None:
        self.runs = runs
        self.study = study
        self.monitor = config.train.monitor
        self.display = display
        self.overall = display.add_task("search", total=config.search.trials, note="")
        self.current = display.add_task("trial", total=epochs, note="")
        self.epochs = epochs

    def begun(self, trial: optuna.Trial, settings: Mapping[str, Any]) -> None:
        self.display.update(self.overall, completed=len(used_trials(self.study)), note=_best_so_far(self.study))
        self.display.reset(self.current, total=self.epochs, description=f"trial {trial.number}")
        self.runs.begin(_name(trial), settings, {"trial.number": trial.number})

    def epoch(self, trial: optuna.Trial, metrics: EpochMetrics) -> None:
        self.runs.epoch(_name(trial), epoch_metrics(vars(metrics)), metrics.epoch)
        note = f"val {self.monitor} {metrics.monitored(self.monitor):.4f}"
        self.display.update(self.current, completed=metrics.epoch, note=note)

    def ended(self, trial: FrozenTrial) -> None:
        if DUPLICATE in trial.user_attrs:
            settings = {key: from_optuna(value) for key, value in trial.params.items()}
            tags = {"trial.number": trial.number, "trial.duplicate_of": trial.user_attrs[DUPLICATE]}
            self.runs.begin(_name(trial), settings, tags)
        match trial.state:
            case TrialState.FAIL:
                reason = trial.user_attrs[FAILURE]
                messages.print(f"trial {trial.number} failed: {reason}")
                self.runs.fail(_name(trial), reason)
            case TrialState.RUNNING:
                self.runs.interrupt(_name(trial), "its worker died")
            case TrialState.PRUNED:
                self.runs.end(_name(trial), f"pruned after epoch {trial.last_step}")
            case _:
                self.runs.end(_name(trial), "complete")


def _name(trial: optuna.Trial | FrozenTrial) -> str:
    return f"trial {trial.number}"


def _best_so_far(study: optuna.Study) -> str:
    best = ranked(study)
    return f"best {monitored(best[0]):.4f}" if best else ""
