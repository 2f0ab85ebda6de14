"""Stage 3: search hyperparameters and write what was found."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from darkroom.config import Config
from darkroom.config.settings import Choices
from darkroom.data.cache import DatasetCard
from darkroom.data.stale_images import stale_images
from darkroom.errors import ModelError
from darkroom.features.head import open_head
from darkroom.features.task import trained_part, without_effect
from darkroom.promotion.start_from import InitialWeights, load_initial_weights
from darkroom.search import report
from darkroom.search.attributes import DUPLICATE, FAILURE
from darkroom.search.executors import WorkerSlot, open_slots
from darkroom.search.heartbeat import heartbeats
from darkroom.search.plan import plan
from darkroom.search.progress import SearchProgress
from darkroom.search.repeats import RepeatTrials, open_repeats
from darkroom.search.scheduler import TrialScheduler
from darkroom.search.significance import compare_seeds
from darkroom.search.space import check_colors, check_devices, check_space, with_all_views
from darkroom.search.storage import explained, open_storage, shown
from darkroom.search.study import Start, best_trial, monitored, open_study, ranked, used_trials
from darkroom.search.table import STATES, in_one_line
from darkroom.search.trials import StudyTrials
from darkroom.tracking.environment import describe_environment
from darkroom.tracking.names import search_name
from darkroom.tracking.runs import NOTE_TAG, START_TAG, Run, epoch_metrics
from darkroom.tracking.tracker import Tracker, check_store
from darkroom.tracking.trials import TrialRuns
from darkroom.training.compiler import check_compiler
from darkroom.training.device import choose_device
from darkroom.training.loop import EpochMetrics
from darkroom.training.precision import Precision, fastest_precision
from darkroom.training.size import resource_warning
from darkroom.utils.console import messages, warn
from darkroom.utils.files import atomic_directory, write_json
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
    check_store(config.tracking)
    check_space(config)
    device = choose_device(config.train.device)
    check_devices(config, device)
    card = DatasetCard.read(workspace.processed(config.dataset.name))
    check_colors(config, card.shape[0])
    for line in without_effect(config, config.search.space.flat()):
        warn(line)
    if note := resource_warning(*trained_part(config, card), device):
        warn(note)
    for note in stale_images(config, card, workspace.processed(config.dataset.name)):
        warn(note)
    if config.train.start_from and (workspace.root / config.train.start_from).resolve() == workspace.weights.resolve():
        # Not after the search, which takes long.
        raise ModelError(
            f"train.start_from: {config.train.start_from}: DVC removes it before the training; name a version in the "
            "registry, or a copy"
        )
    config, beginning = _initial_weights(config, workspace, card)
    if beginning:
        messages.print(beginning.line)
    if config.search.executor != "ray":  # a cluster's machines are not this one
        check_compiler(config.train.compile, device)
    head = open_head(with_all_views(config), workspace, card, device)
    directory = head.directory if head else workspace.processed(config.dataset.name)
    with explained(config):
        _Search(config, card, device, beginning, directory).run(workspace, start)


def _initial_weights(config: Config, workspace: Workspace, card: DatasetCard) -> tuple[Config, InitialWeights | None]:
    """What every trial begins with; None if that depends on its backbone. Raises as ``load_initial_weights`` does."""
    space = config.search.space.model
    inits, hidden, backbones = (space.get(key) for key in ("head_init", "hidden", "backbone"))
    strictest = config  # the trial that asks most of the weights: one layer, from the known classes
    if isinstance(inits, Choices) and "classes" in inits.choices:
        strictest = strictest.with_settings({"model.head_init": "classes"})
    if isinstance(hidden, Choices) and not all(hidden.choices):
        strictest = strictest.with_settings({"model.hidden": []})
    if config.train.start_from or config.model.weights_path or not isinstance(backbones, Choices):
        if strictest != config:
            load_initial_weights(strictest, workspace, card)
        return load_initial_weights(config, workspace, card)
    for backbone in backbones.choices:  # fetched before the first trial
        load_initial_weights(strictest.with_settings({"model.backbone": backbone}), workspace, card)
    return config, None


class _Search:
    """A study and its parent run in MLflow; its trials are trained on what lies in ``directory``."""

    def __init__(
        self,
        config: Config,
        card: DatasetCard,
        device: torch.device,
        beginning: InitialWeights | None,
        directory: Path,
    ) -> None:
        self.config = config
        self.card = card
        self.device = device
        self.beginning = beginning
        self.directory = directory

    def run(self, workspace: Workspace, start: Start) -> None:
        config = self.config
        precision = self._precision(plan(config, self.card, self.device).workers)
        storage = open_storage(config, workspace.study_journal)
        study = open_study(storage, config, self.card, start)
        before = len(used_trials(study))
        if 0 < before < config.search.trials:
            messages.print(f"search: resuming {study.study_name} after {before} of {config.search.trials} trials")
        name, key = search_name(config, self.card), study.user_attrs.get(RUN_ATTRIBUTE)
        with (
            Tracker(config.tracking, workspace.spools) as tracker,
            tracker.start(name, "search", key=key) as parent,
            tracker.monitored(parent),
        ):
            study.set_user_attr(RUN_ATTRIBUTE, parent.key)
            in_precision = precision.put_into(config)
            # In fp16 trials are no single program.
            planned = plan(in_precision, self.card, self.device)
            self._describe(parent, precision)
            if planned.note:
                warn(planned.note)
            with (
                TrialRuns(tracker, parent) as runs,
                open_slots(in_precision, self.directory, planned.workers, planned.capacity) as slots,
            ):
                trials = StudyTrials(study, config)
                limit = None if config.search.minutes is None else 60 * config.search.minutes - trials.seconds
                self._conduct(trials, slots, runs, "search", config.search.trials, limit)
                best_trial(study)  # raises if there is none
                repeats = RepeatTrials(study, open_repeats(storage, study, config), config)
                self._conduct(repeats, slots, runs, "repeats", repeats.total)
            tracker.finish_import()
            comparison = compare_seeds(repeats.candidates(), config.train.monitor)
            result = report.result(study, config, self.card.fingerprint, comparison)
            ending = str(trials.ending)
            with atomic_directory(workspace.report("search")) as directory:
                report.write(directory, study, config, result, comparison, ending)
            parent.log_metrics({f"best/{config.train.monitor}": result["value"], "trials": float(result["trials"])})
            note = report.page(study, config, result, comparison, ending)
            parent.log_tags({"best_params": result["params"], NOTE_TAG: note})
            parent.log_directory(workspace.report("search"), "search")
            write_json(workspace.best_params, result)
        if len(used_trials(study)) == before:
            messages.print(f"search: no new trials; {study.study_name} has all {before}")
        found = in_one_line(result["params"]) or "the settings as written"
        messages.print(f"search: best validation {config.train.monitor} {result['value']:.4f} with {found}")
        messages.print(f"search: {comparison.verdict}")

    def _conduct(
        self,
        source: StudyTrials | RepeatTrials,
        slots: Sequence[WorkerSlot],
        runs: TrialRuns,
        title: str,
        most: int,
        seconds: float | None = None,
    ) -> None:
        """Have the trials of ``source`` trained, of which there are ``most``; ``title`` stands beside their number."""
        config = self.config
        epochs = config.search.epochs or config.train.epochs
        with (
            SearchProgress(messages, title, config.train.monitor, most, epochs, seconds=seconds) as display,
            heartbeats(source.study),
        ):
            watch = _Watch(runs, source, config.train.monitor, display)
            TrialScheduler(source, config, slots, watch, epochs).run()

    def _precision(self, workers: int) -> Precision:
        """That of every trial. A cluster's machines are not this one: there it is what they have been made for."""
        if self.config.search.executor == "ray":
            return Precision(self.config.train.precision, {})
        threads = max(1, torch.get_num_threads() // workers)
        return fastest_precision(*trained_part(self.config, self.card), self.device, threads)

    def _describe(self, parent: Run, precision: Precision) -> None:
        config = self.config
        flat = config.flat()
        if config.search.storage is not None:
            flat["search.storage"] = shown(config.search.storage)
        if self.beginning:
            if self.beginning.reference:
                flat["train.start_from"] = self.beginning.reference
            parent.log_tags({START_TAG: self.beginning.digest})
        parent.log_params(
            {key: flat[key] for key in flat if key.split(".")[0] in {"dataset", "model", "train", "augment", "search"}}
        )
        parent.log_tags(describe_environment(self.device, precision.name) | precision.tags())
        parent.log_dataset(self.card, "search")


class _Watch:
    """Shows the trials and logs each as a child run with a curve of its own."""

    def __init__(
        self, runs: TrialRuns, source: StudyTrials | RepeatTrials, monitor: str, display: SearchProgress
    ) -> None:
        self.runs = runs
        self.source = source
        self.monitor = monitor
        self.display = display
        ended = used_trials(source.study)
        display.known(Counter(STATES[trial.state] for trial in ended), self._best_so_far())

    def trial_started(self, trial: optuna.Trial, settings: Mapping[str, Any]) -> None:
        name = self.source.name(trial)
        self.display.trial_started(trial.number, name)
        self.runs.begin(name, self.source.kind, settings, self.source.tags(trial), self._title(trial))

    def epoch_ended(self, trial: optuna.Trial, metrics: EpochMetrics) -> None:
        self.runs.log_epoch(self.source.name(trial), epoch_metrics(vars(metrics)), metrics.epoch)
        self.display.epoch_ended(trial.number, metrics.epoch, metrics.monitored(self.monitor))

    def trial_ended(self, trial: FrozenTrial) -> None:
        name = self.source.name(trial)
        if DUPLICATE in trial.user_attrs:
            settings, tags = self.source.settings(trial), self.source.tags(trial)
            self.runs.begin(name, self.source.kind, settings, tags, self._title(trial))
        state = "interrupted" if trial.state is TrialState.RUNNING else STATES[trial.state]
        self.display.trial_ended(trial.number, state, self._best_so_far())
        match trial.state:
            case TrialState.FAIL:
                reason = trial.user_attrs[FAILURE]
                messages.print(f"{name} failed: {reason}")
                self.runs.fail(name, reason)
            case TrialState.RUNNING:
                self.runs.interrupt(name, "its worker died")
            case TrialState.PRUNED:
                state = f"pruned after epoch {trial.last_step}"
                self.runs.end(name, state, f"{self._title(trial)}, {state}")
            case _:
                self.runs.end(name, "complete")

    def _title(self, trial: optuna.Trial | FrozenTrial) -> str:
        """The name of its run, from which trials, repeats and duplicates can be told."""
        name = self.source.name(trial)
        if DUPLICATE in trial.user_attrs:
            return f"{name}, duplicate of trial {trial.user_attrs[DUPLICATE]}"
        return name if self.source.kind == "trial" else f"{self.source.kind} {name}"

    def _best_so_far(self) -> str:
        best = ranked(self.source.study)
        return f"best {monitored(best[0]):.4f} ({self.source.name(best[0])})" if best else ""
