"""Stage 3: search hyperparameters and write what was found."""

import csv
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.progress import Progress

from darkroom import drawing
from darkroom.config import Config
from darkroom.console import messages, progress
from darkroom.data.batches import Split, read_split
from darkroom.data.cache import DatasetCard
from darkroom.files import atomic_directory, digest, write_json
from darkroom.interruption import held_back
from darkroom.search import figures
from darkroom.search.space import check_space, from_optuna
from darkroom.search.study import FAILURE, best_trial, open_study, run_trials, used_trials
from darkroom.tracking.facts import system_facts
from darkroom.tracking.runs import Run, epoch_metrics
from darkroom.tracking.tracker import Tracker
from darkroom.training.device import choose_device, choose_precision
from darkroom.training.loop import EpochMetrics
from darkroom.training.session import train_classifier
from darkroom.workspace import Workspace

RUN_ATTRIBUTE = "darkroom_run"


def run(config: Config, workspace: Workspace) -> None:
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
    card = DatasetCard.read(directory)
    search = _Search(config, card, read_split(directory, card, "train"), read_split(directory, card, "val"))
    search.run(workspace)


class _Search:
    """A study, its parent run in MLflow, and the data its trials train on."""

    def __init__(self, config: Config, card: DatasetCard, train: Split, val: Split) -> None:
        self.config = config
        self.card = card
        self.train = train
        self.val = val

    def run(self, workspace: Workspace) -> None:
        config = self.config
        study = open_study(workspace.study_journal, self._key(), config)
        name, key = f"search {config.model.name} on {self.card.name}", study.user_attrs.get(RUN_ATTRIBUTE)
        with (
            Tracker(config.tracking, workspace.spools) as tracker,
            tracker.start(name, "search", key=key) as parent,
            progress() as display,
        ):
            study.set_user_attr(RUN_ATTRIBUTE, parent.key)
            self._describe(parent)
            run_trials(study, config, self._objective(tracker, parent, study, display), self._announce)
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

    def _key(self) -> str:
        """Names the study: searches that differ in data or settings do not mix, more trials go on with it."""
        config = self.config
        parts = {
            "fingerprint": self.card.fingerprint,
            "model": config.model.model_dump(mode="json"),
            "augment": config.augment.model_dump(mode="json"),
            "train": config.train.model_dump(mode="json"),
            "search": config.search.model_dump(mode="json", exclude={"trials"}),
        }
        return f"{self.card.name}-{config.model.name}-{digest(parts)[:16]}"

    def _describe(self, parent: Run) -> None:
        config = self.config
        device = choose_device(config.train.device)
        flat = config.flat()
        parent.log_params(
            {key: flat[key] for key in flat if key.split(".")[0] in {"dataset", "model", "train", "augment", "search"}}
        )
        parent.log_tags(system_facts(device, choose_precision(config.train, device)))
        parent.log_dataset(self.card, "search")

    def _objective(self, tracker: Tracker, parent: Run, study: optuna.Study, display: Progress) -> Any:
        """The objective of one trial, which is a child run with a curve of its own."""
        config = self.config
        epochs = config.search.epochs or config.train.epochs
        overall = display.add_task("search", total=config.search.trials, note="")
        current = display.add_task("trial", total=epochs, note="")

        def objective(trial: optuna.Trial, settings: dict[str, Any]) -> float:
            done = used_trials(study)
            display.update(overall, completed=len(done), note=_best_so_far(study))
            display.reset(current, total=epochs, description=f"trial {len(done) + 1}")
            with tracker.start(f"trial {trial.number}", "trial", parent=parent.key) as run:
                run.log_params(settings)
                pruned = None

                @held_back()
                def on_epoch(metrics: EpochMetrics) -> None:
                    run.log_metrics(epoch_metrics(vars(metrics)), step=metrics.epoch)
                    value = metrics.monitored(config.train.monitor)
                    display.update(current, completed=metrics.epoch, note=f"val {config.train.monitor} {value:.4f}")
                    trial.report(value, metrics.epoch)
                    if metrics.epoch < epochs and trial.should_prune():
                        raise optuna.TrialPruned(f"pruned after epoch {metrics.epoch}")

                try:
                    resolved = config.with_settings(settings | {"train.epochs": epochs})
                    _, result = train_classifier(resolved, self.card, self.train, self.val, on_epoch=on_epoch)
                except optuna.TrialPruned as problem:
                    pruned = problem
                run.log_tags({"trial.state": str(pruned) if pruned else "complete", "trial.number": trial.number})
            if pruned:
                raise pruned
            return result.best.monitored(config.train.monitor)

        return objective

    def _announce(self, trial: FrozenTrial) -> None:
        if trial.state is TrialState.FAIL:
            messages.print(f"trial {trial.number} failed: {trial.user_attrs[FAILURE]}")

    def _result(self, study: optuna.Study, best: FrozenTrial) -> dict[str, Any]:
        used = used_trials(study)
        states = {state.name.lower(): sum(trial.state is state for trial in used) for state in TrialState}
        return {
            "params": {key: from_optuna(value) for key, value in best.params.items()},
            "value": best.value,
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
        important = figures.importances(study)
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
                table.writerow([trial.number, trial.state.name.lower(), trial.value, epochs, *values, reason])


def _best_so_far(study: optuna.Study) -> str:
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return ""
    return f"best {study.best_value:.4f}"
