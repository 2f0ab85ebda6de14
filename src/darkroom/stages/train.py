"""Stage 4: train the final model with the settings that the search found."""

import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from darkroom import plotting
from darkroom.config import Config
from darkroom.data.augmentation import without_effect as colorless
from darkroom.data.batches import Split, read_split
from darkroom.data.cache import DatasetCard
from darkroom.data.shards import MADE_BY
from darkroom.data.stale_images import stale_images
from darkroom.data.streaming import open_store
from darkroom.errors import CacheError, SearchError, TrackingError, counted
from darkroom.evaluation.training_curves import HISTORY, learning_curves, write_history
from darkroom.features.head import Head, open_head, train_head
from darkroom.features.task import trained_part
from darkroom.features.task import without_effect as useless
from darkroom.models.card import ModelCard, save_card
from darkroom.models.classifier import Classifier
from darkroom.models.files import save_weights
from darkroom.models.registry import resolve, without_effect
from darkroom.promotion.start_from import load_initial_weights
from darkroom.search.best_params import SEARCH, read_best_params
from darkroom.tracking.environment import code_version, describe_environment
from darkroom.tracking.names import training_name
from darkroom.tracking.runs import EXAMPLE_IMAGES, START_TAG, Run, epoch_metrics, log_training
from darkroom.tracking.tracker import Tracker, check_store, connect
from darkroom.training.agreement import check_agreement
from darkroom.training.checkpoint import Checkpoint
from darkroom.training.device import check_sharing, choose_device, count_devices
from darkroom.training.fit import train_classifier
from darkroom.training.loop import EpochMetrics, FitResult
from darkroom.training.precision import fastest_precision
from darkroom.training.process_group import joined, member
from darkroom.training.ranks import ALONE, Ranks
from darkroom.training.size import resource_warning
from darkroom.utils.console import messages, progress, warn
from darkroom.utils.files import atomic_directory, digest, need_directory, write_json
from darkroom.utils.signals import answered
from darkroom.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    """Write models/model.safetensors, models/model.json and reports/train.

    On several devices, and in a cluster, the work is that of processes of their own. Raises TrainingError, ModelError,
    CacheError, ConfigError, SearchError or TrackingError.
    """
    card = DatasetCard.read(workspace.processed(config.dataset.name))
    config, is_searched = _resolve(config, card, workspace)
    group = member(os.environ)
    if group is None or group["RANK"] == "0":
        check_store(config.tracking)
        for line in [] if is_searched else useless(config):  # a search has said so of what it does not choose
            warn(line)
    if group is not None or config.model.trains_head:
        _train(config, workspace)
        return
    if config.train.executor == "ray":
        from darkroom.training.ray_launch import launch_on_ray  # only here: it is an extra

        start = partial(launch_on_ray, config.train)
    elif (count := count_devices(config.train, choose_device(config.train.device))) > 1:
        check_sharing(config.train, count)
        from darkroom.training.launch import launch  # torch's agent takes a second to import

        start = partial(launch, count)
    else:
        _train(config, workspace)
        return
    if config.data.local_cache_gb is None:  # a file that is missing is reported before processes are started
        for name in ("train", "val"):
            read_split(workspace.processed(config.dataset.name), card, name)
    with answered("ending the run"):  # which the processes do not say: Ctrl-C is for this one to act on
        try:
            start(_train, config, workspace)
        except BaseException as problem:
            # The first process was killed, or was not given the time to end its run.
            if any(workspace.spools.glob("*.jsonl")):
                with suppress(TrackingError):
                    connect(config.tracking, workspace.spools)  # which ends the run of a process that was killed
            if isinstance(problem, KeyboardInterrupt):
                messages.print("interrupted; the same command resumes")
            raise


def _train(config: Config, workspace: Workspace) -> None:
    """Train in this process: alone, or as one of several, of which the first writes."""
    card = DatasetCard.read(workspace.processed(config.dataset.name))
    with joined(choose_device(config.train.device)) as (ranks, device):
        check_sharing(config.train, ranks.count)
        check_agreement(ranks, _facts(config, card))
        with open_store(config.data.local_cache_gb, workspace, card, ("train", "val")) as store:
            directory = workspace.processed(config.dataset.name)
            val = read_split(directory, card, "val", store)
            splits = read_split(directory, card, "train", store), val
            if ranks.is_first:
                plan = _make_plan(config, workspace, card, device)
                others = ALONE if plan.head else ranks
                others.from_first((plan.config, plan.key))
                _train_and_write(plan, workspace, card, splits, others, device)
            elif not config.model.trains_head:
                config, key = ranks.from_first((config, ""))
                checkpoint = Checkpoint(workspace.checkpoint, key)
                train_classifier(config, card, *splits, device, checkpoint=checkpoint, ranks=ranks)


def _facts(config: Config, card: DatasetCard) -> dict[str, Any]:
    """What must be the same in all processes of a training, by its name."""
    versions = {f"the version of {name}": version(name) for name in ("darkroom", "torch")}
    return {**versions, "the dataset's fingerprint": card.fingerprint, **config.flat()}


@dataclass(frozen=True)
class _Plan:
    """What is trained: the final ``config``, what the run records of it and of its ``environment``.

    ``key`` identifies the training: its checkpoint is resumed by one with the same.
    """

    config: Config
    settings: dict[str, dict[str, Any]]
    environment: dict[str, Any]
    key: str
    head: Head | None


def _make_plan(config: Config, workspace: Workspace, card: DatasetCard, device: torch.device) -> _Plan:
    """Look up and check all that is needed before the work begins, and say what the user should know."""
    need_directory(workspace.report("preprocess"), error=CacheError, made_by=MADE_BY)  # which the run takes along
    if note := resource_warning(*trained_part(config, card), device):
        warn(note)
    for note in stale_images(config, card, workspace.processed(config.dataset.name)):
        warn(note)
    config, beginning = load_initial_weights(config, workspace, card)
    for key in without_effect(config.model):
        warn(f"model.{key} has no effect on {config.model.name}")
    for key in colorless(config.augment, card.shape[0]):
        warn(f"augment.{key} has no effect on images of one channel")
    precision = fastest_precision(*trained_part(config, card), device)
    environment = describe_environment(device, precision.name) | precision.tags() | code_version()
    settings = _settings(config, card)
    config = precision.put_into(config)
    if beginning:
        messages.print(beginning.line)
        if beginning.doubt:
            warn(beginning.doubt)
        if beginning.reference:
            # As it is found again: the file here is a copy.
            settings["train"]["start_from"] = beginning.reference
        environment[START_TAG] = beginning.digest
    # With the classes of its weights, which the recorded settings do not contain.
    start = Path(config.train.start_from).name if config.train.start_from else None
    head = open_head(config, workspace, card, device)
    features = {"features": head.directory.name} if head else {}
    if head:
        environment["system.features_by"] = head.features.computed_by
    # A training begun on another device, in another precision or with other weights cannot resume to the same bits.
    where = {key: environment.get(key) for key in ("system.device", "system.precision", "system.features_by")}
    # Only rounding depends on how many devices there are.
    same = settings | {"train": {key: value for key, value in settings["train"].items() if key != "devices"}}
    key = digest({"fingerprint": card.fingerprint, "settings": same, "where": where, "start": start} | features)
    return _Plan(config, settings, environment, key, head)


def _train_and_write(
    plan: _Plan,
    workspace: Workspace,
    card: DatasetCard,
    splits: tuple[Split, Split],
    ranks: Ranks,
    device: torch.device,
) -> None:
    config, settings = plan.config, plan.settings
    environment = plan.environment | {"system.devices": ranks.count}
    checkpoint = Checkpoint(workspace.checkpoint, plan.key)
    if saved := checkpoint.load():
        messages.print(f"train: resuming after epoch {len(saved['history'])} of {config.train.epochs}")
        if saved["ranks"] != ranks.count:
            warn(
                f"the training was begun on {counted(saved['ranks'], 'device')} and resumes on {ranks.count}: with the "
                "same order of images, but other rounding, so that the bits of its weights will differ"
            )
    with (
        Tracker(config.tracking, workspace.spools) as tracker,
        tracker.start(training_name(settings, card), "train", key=checkpoint.run_id) as tracked,
        tracker.monitored(tracked),
        progress() as display,
    ):
        checkpoint.run_id = tracked.key
        tracked.log_params({f"{part}.{key}": value for part, keys in settings.items() for key, value in keys.items()})
        tracked.log_tags(environment)
        on_epoch = _EpochReport(tracked, config, display)
        began, before = time.perf_counter(), tracker.seconds
        if plan.head:
            classifier, result = train_head(config, plan.head, device, checkpoint=checkpoint, on_epoch=on_epoch)
        else:
            classifier, result = train_classifier(
                config, card, *splits, device, checkpoint=checkpoint, on_epoch=on_epoch, ranks=ranks
            )
        for note in result.notes:
            warn(note)
        seconds = tracker.seconds - before
        cost = {"seconds": seconds, "share": seconds / (time.perf_counter() - began)}
        tracker.finish_import()
        _write(workspace, classifier, result, cost, config.train.label_smoothing)
        digest_of_weights = save_weights(classifier, workspace.weights)
        model_card = ModelCard(asdict(card), settings, environment, asdict(result.best), tracked.key, digest_of_weights)
        save_card(model_card, workspace.model_card)
        log_training(tracked, model_card, cost, [workspace.report("preprocess"), workspace.report("train")])
        from darkroom.tracking.logged_model import log_model

        example = splits[1].images[:EXAMPLE_IMAGES].numpy()
        tracker.if_it_answers(lambda store: log_model(store, tracked.key, classifier, model_card, example))
    checkpoint.remove()
    best = result.best
    ended = "stopped early after" if result.stopped_early else "trained"
    messages.print(
        f"train: {ended} {len(result.history)} of {config.train.epochs} epochs, best epoch {best.epoch} with "
        f"validation accuracy {best.val_accuracy:.4f}, loss {best.val_loss:.4f}"
    )


def _resolve(config: Config, card: DatasetCard, workspace: Workspace) -> tuple[Config, bool]:
    """The settings of the training, and whether there was a search.

    What the search found takes precedence over params.yaml, which takes precedence over the defaults.
    """
    found, fingerprint = read_best_params(workspace.best_params, config)
    if fingerprint not in (None, card.fingerprint):
        raise SearchError(
            f"{workspace.best_params}: searched on another dataset than {workspace.processed(card.name)} now holds; "
            f"run `{SEARCH}` again"
        )
    return found, fingerprint is not None


def _settings(config: Config, card: DatasetCard) -> dict[str, dict[str, Any]]:
    """Every setting that the model depends on, by section."""
    return {
        **card.settings,
        "model": {"name": config.model.name, **resolve(config.model)},
        "augment": config.augment.model_dump(mode="json"),
        "train": config.train.model_dump(mode="json", exclude={"executor", "ray_address"}),
    }


class _EpochReport:
    """Logs and shows each epoch."""

    def __init__(self, run: Run, config: Config, display: Progress) -> None:
        self.run = run
        self.display = display
        self.task = display.add_task("train", total=config.train.epochs, note="")

    def __call__(self, metrics: EpochMetrics) -> None:
        self.run.log_metrics(epoch_metrics(asdict(metrics)), step=metrics.epoch)
        note = f"val accuracy {metrics.val_accuracy:.4f}, loss {metrics.val_loss:.4f}"
        self.display.update(self.task, completed=metrics.epoch, note=note)


def _write(
    workspace: Workspace, classifier: Classifier, result: FitResult, cost: dict[str, float], label_smoothing: float
) -> None:
    best = result.best
    with atomic_directory(workspace.report("train")) as directory:
        rows = [asdict(metrics) for metrics in result.history]
        write_history(rows, directory / HISTORY)
        curves = learning_curves(rows, best.epoch, label_smoothing=label_smoothing)
        plotting.save(curves, directory / "curves.png")
        write_json(
            directory / "metrics.json",
            {
                "epochs": len(rows),
                "best_epoch": best.epoch,
                "val_accuracy": best.val_accuracy,
                "val_loss": best.val_loss,
                "parameters": sum(parameter.numel() for parameter in classifier.parameters()),
                "seconds": sum(metrics.seconds for metrics in result.history),
                "warm_up_seconds": result.warm_up_seconds,
                **{f"tracking_{key}": value for key, value in cost.items()},
            },
        )
