"""The worker that trains the configurations of a search, an epoch at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from darkroom.config import Config
from darkroom.config.settings import Model
from darkroom.data.batches import place, read_split
from darkroom.data.cache import DatasetCard
from darkroom.errors import ConfigError, ModelError, TrainingError
from darkroom.features.files import read_class_layer, read_features
from darkroom.features.head import start_head
from darkroom.features.task import head_config
from darkroom.models.classifier import build_classifier
from darkroom.search.fused.loop import FusedLoop, SingleLoop
from darkroom.search.objectives import cost
from darkroom.training.cuda_graph import CudaGraphs
from darkroom.training.device import choose_device, choose_precision, prepare
from darkroom.training.fit import start_classifier
from darkroom.training.loop import EpochMetrics, TrainingLoop
from darkroom.training.precision import Precision
from darkroom.utils.memory import failure_reason

# What the settings of a trial can be to blame for, and a failing device not. Anything else ends the search.
FAILURES = (ConfigError, ModelError, TrainingError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class TrialAssignment:
    """A configuration to train: ``settings`` {"section.key": value} take the place of those written."""

    number: int
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class WorkerCommand:
    """What a worker is to begin before its next epoch, and what to give up."""

    begin: tuple[TrialAssignment, ...] = ()
    give_up: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrialProgress:
    """One more epoch of a configuration; ``is_finished`` if it was the last.

    ``cost`` is the second objective, where there is one, once the training is finished.
    """

    metrics: EpochMetrics
    is_finished: bool
    cost: float | None = None


@dataclass(frozen=True)
class WorkerResult:
    """What has become of each configuration in one round: an epoch more, or the reason why it cannot be trained.

    ``notes`` say what the device had to do without.
    """

    progress: dict[int, TrialProgress] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)


class Worker:
    """Trains configurations on the cache in ``directory``, of images or of features, mapped and not copied.

    With ``fuses`` the configurations that are under way at once are one program, and must be of one group; otherwise
    there is one at a time.

    Raises CacheError if the cache is missing or damaged, ConfigError if the device is not there.
    """

    def __init__(self, config: Config, directory: Path, *, fuses: bool) -> None:
        self.device = choose_device(config.train.device)
        if fuses and choose_precision(config.train, self.device) == "fp16":
            # "auto" on another machine than the search's. Fused trainings have no loss scaling, which fp16 needs.
            config = Precision("fp32", {}).put_into(config)
        self.config = config
        prepare(self.device, deterministic=config.train.deterministic)
        self.features = None
        if config.model.trains_head:
            self.features = replace(read_features(directory), classes=read_class_layer(directory))
            self.card = self.features.dataset
            train, val = self.features.train, self.features.val
        else:
            self.card = DatasetCard.read(directory)
            train, val = read_split(directory, self.card, "train"), read_split(directory, self.card, "val")
        self.train, self.val = place(self.device, train, val)
        self._models: dict[int, Model] = {}
        recorder = CudaGraphs() if self.device.type == "cuda" else None
        self._trainings: FusedLoop[int] | SingleLoop[int] = FusedLoop(recorder) if fuses else SingleLoop()

    def advance(self, command: WorkerCommand) -> WorkerResult:
        """Carry out ``command``, then train an epoch of everything that is under way."""
        report = WorkerResult()
        for number in command.give_up:
            self._trainings.remove(number)
            self._models.pop(number, None)
        for assignment in command.begin:
            try:
                self._trainings.add(assignment.number, self._begin(assignment))
            except torch.AcceleratorError:
                raise
            except FAILURES as problem:
                report.failures[assignment.number] = failure_reason(problem)
        for number, found in self._run_epoch().items():
            training = self._trainings.loops[number]
            report.notes.update(training.result.notes)
            if isinstance(found, EpochMetrics):
                report.progress[number] = TrialProgress(found, training.finished, self._cost(number, training))
            else:
                report.failures[number] = failure_reason(found)
            if training.finished or number in report.failures:
                self._trainings.remove(number)
                self._models.pop(number, None)
        return report

    def _begin(self, assignment: TrialAssignment) -> TrainingLoop:
        config = self.config.with_settings(assignment.settings)
        if self.features:
            model = start_head(config, self.features, self.device)
            self._models[assignment.number] = config.model
            config = head_config(config)
        else:
            model = start_classifier(config, self.card, self.train, self.device)
        loop = TrainingLoop(model, self.train, self.val, config.train, config.augment, self.device)
        if isinstance(self._trainings, SingleLoop):
            loop.warm_up()
        return loop

    def _cost(self, number: int, training: TrainingLoop) -> float | None:
        kind = self.config.search.second_objective
        if not training.finished or kind == "none":
            return None
        model = training.model
        if self.features:  # the cost of a model is that of all of it, and its weights do not matter for that
            with torch.random.fork_rng(devices=[]):
                model = build_classifier(self._models[number], self.card).to(self.device)
        return cost(kind, model, self.card)

    def _run_epoch(self) -> Mapping[int, EpochMetrics | Exception]:
        if not self._trainings.loops:
            return {}
        try:
            return self._trainings.run_epoch()
        except torch.AcceleratorError:  # the device has failed, and would fail every later trial
            raise
        except FAILURES as problem:  # such as memory that does not suffice for one of them
            return dict.fromkeys(self._trainings.loops, problem)
