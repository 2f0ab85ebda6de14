"""Stage 5: measure the model on the test split, once."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from darkroom import plotting
from darkroom.config import Config
from darkroom.config.settings import Evaluate
from darkroom.data.batches import CPU, Split, read_split
from darkroom.data.cache import DatasetCard, read_digests, read_groups, read_leaked, read_names
from darkroom.data.changed_settings import changed_settings
from darkroom.data.glyph_layout import common_ground, measure_glyphs
from darkroom.data.shard_store import ShardStore
from darkroom.data.streaming import open_store
from darkroom.errors import CacheError, ModelError, counted
from darkroom.evaluation import plots
from darkroom.evaluation.corrupted_images import measure_robustness
from darkroom.evaluation.cross_validated import beside
from darkroom.evaluation.gallery import write_gallery
from darkroom.evaluation.leaks import confirm_leaked, without_leaked
from darkroom.evaluation.logits import predict_logits
from darkroom.evaluation.metrics import Evaluation, Floats, measure
from darkroom.evaluation.neighbors import TrainNeighbors
from darkroom.evaluation.notes import caveats, describe_sets, headline, leak_lines
from darkroom.evaluation.page import REPORT
from darkroom.evaluation.page.pictures import NamedImages
from darkroom.evaluation.page.tables import read_curves
from darkroom.evaluation.page.write import write_report
from darkroom.evaluation.prediction_sets import Members, coverage_by_class, measure_sets
from darkroom.evaluation.predictions import IDENTITY, PREDICTIONS, Identity, write_predictions
from darkroom.evaluation.reference import REFERENCE, Reference, calibrated, energies, fit_reference
from darkroom.evaluation.robustness import Robustness
from darkroom.evaluation.robustness_report import write_robustness
from darkroom.evaluation.slices import Slice, as_json, describe_named, find_slices, large_slices
from darkroom.evaluation.slicing import CONFUSION, by_confusion, divide
from darkroom.evaluation.training_curves import HISTORY
from darkroom.evaluation.tta import average_logits
from darkroom.explanation.explainer import Explainer
from darkroom.explanation.figures import class_maps, explained_mistakes
from darkroom.models.classifier import Classifier
from darkroom.models.files import load_classifier
from darkroom.training.device import set_tf32
from darkroom.utils.console import messages, progress, warn
from darkroom.utils.csv_files import write_spreadsheet
from darkroom.utils.files import atomic_directory, sha256, write_json
from darkroom.workspace import Workspace

TTA_METRICS = ("accuracy", "log_loss")
CALIBRATED_METRICS = ("log_loss", "calibration_error")
# Of the train split, enough to know how its images are laid out.
LAYOUT_IMAGES = 2000
# Neighbors are looked for among so many train images for each image of val and test: the time stays within reason.
MOST_TRAIN = 5
SLICES = "slices.json"


def run(config: Config, workspace: Workspace) -> None:
    """Write reports/evaluate. Raises ModelError, CacheError or ConfigError."""
    dataset = DatasetCard.read(workspace.processed(config.dataset.name))
    with open_store(config.data.local_cache_gb, workspace, dataset, ("val", "test")) as store:
        _evaluate(config, workspace, dataset, store)


def _evaluate(config: Config, workspace: Workspace, dataset: DatasetCard, store: ShardStore | None) -> None:
    directory = workspace.processed(config.dataset.name)
    if note := changed_settings(config, dataset):
        warn(note)
    classifier, card = load_classifier(workspace.weights, workspace.model_card)
    if card.dataset_card.fingerprint != dataset.fingerprint:
        raise CacheError(
            f"{workspace.weights}: trained on other data ({card.dataset_card.name} "
            f"{card.dataset_card.fingerprint[:12]}) than {directory} holds ({dataset.name} "
            f"{dataset.fingerprint[:12]}); run `darkroom train` again"
        )
    val, test = (read_split(directory, dataset, name, store) for name in ("val", "test"))
    train = _train_if_here(directory, dataset, store)
    wanted = config.evaluate.slices
    slicing, left_out = divide(directory, test, wanted)
    logits = predict_logits(classifier, test, config.evaluate.batch_size).numpy()
    reference = fit_reference_of(classifier, train, val, test, config.evaluate.batch_size)
    found = _measure(classifier, logits, test, dataset, config.evaluate, reference.temperature)
    probabilities = calibrated(logits, reference.temperature)
    sets = reference.prediction_sets(config.serve, dataset.classes, warn)
    members = sets.of(probabilities, energies(logits)) if sets else None
    found = _with_sets(found, members, dataset.classes)
    resembling, leaked = _leaked(classifier, train, val, test, dataset, directory, config.evaluate.batch_size)
    found = replace(found, summary=found.summary | without_leaked(found, leaked))
    correct, compared = found.predicted == found.labels, dict(slicing)
    robustness = _measure_robustness(classifier, test, correct, config.evaluate)
    if robustness:
        found = replace(found, summary=found.summary | robustness.metrics)
    if wanted is None or CONFUSION in wanted:
        compared[CONFUSION] = by_confusion(found.probabilities, found.labels, dataset.classes)
    slices = find_slices(correct, large_slices(compared))
    report = workspace.report("evaluate")
    warnings = caveats(found, dataset.classes)
    if line := describe_named(slices):
        warnings.append(f"{line}; {report / SLICES} lists them")
    for line in warnings:
        warn(line)
    small = beside(len(test), workspace.report("audit"), dataset.fingerprint)
    notes = [headline(found), *([describe_sets(found, sets.coverage)] if sets else [])]
    notes += [str(robustness)] if robustness else []
    notes += [*([small] if small else []), *leak_lines(found, resembling, leaked)]
    with atomic_directory(report) as written:
        _write(found, test, dataset, slices, written)
        _write_heat_maps(classifier, found, test, dataset, written)
        write_json(written / SLICES, as_json(slices, correct, left_out))
        if robustness:
            write_robustness(robustness, test.pixels[np.array([len(test) // 2])][0], written)
        names, digests = read_names(directory, "test"), read_digests(directory, "test")
        write_predictions(
            found, probabilities, dataset.classes, names, written / PREDICTIONS, digests, slicing, members
        )
        reference.write(written / REFERENCE)
        identity = Identity(card.weights_sha256, dataset.fingerprint, sha256(written / PREDICTIONS))
        write_json(written / IDENTITY, asdict(identity))
        write_report(
            written / REPORT,
            found,
            logits,
            NamedImages(test, names, slicing),
            _neighbors(classifier, train, directory, config.evaluate.batch_size, len(val) + len(test)),
            classes=dataset.classes,
            about={
                "dataset": dataset.name,
                "model": card.settings["model"]["name"],
                "weights": card.weights_sha256[:12],
            },
            reference=reference,
            bins=config.evaluate.calibration_bins,
            slices=slices,
            warnings=warnings,
            notes=notes,
            curves=read_curves(workspace.report("train") / HISTORY, card.best_epoch),
        )
    for line in notes:
        messages.print(f"evaluate: {line}")


def _train_if_here(directory: Path, dataset: DatasetCard, store: ShardStore | None) -> Split | None:
    """The train split; None if it is larger than this disk."""
    is_here = store is None or all(map(store.has, dataset.shards["train"]))
    return read_split(directory, dataset, "train") if is_here else None


def _neighbors(
    classifier: Classifier, train: Split | None, directory: Path, batch_size: int, evaluated: int
) -> TrainNeighbors | None:
    """Where the neighbors of test images are found, if the train images are here; ``evaluated`` images were others."""
    if train is None:
        return None
    return TrainNeighbors(classifier, train, read_names(directory, "train"), MOST_TRAIN * evaluated, batch_size)


def fit_reference_of(
    classifier: Classifier, train: Split | None, val: Split, test: Split, batch_size: int
) -> Reference:
    """The reference of the model, from the validation and training images, or the former alone.

    Of ``test``, only the background is used: if one image has another background than all others, such a picture is
    not a negative.
    """
    known = train or val
    some = torch.arange(0, len(known), max(1, len(known) // LAYOUT_IMAGES))
    layout = measure_glyphs(known.take(some, CPU)[0].numpy())
    batches = (images.numpy() for split in (train, val, test) if split for images, _ in split.in_order(batch_size, CPU))
    ground = common_ground(batches) if layout else "mixed"
    logits = predict_logits(classifier, val, batch_size).numpy()
    return fit_reference(logits, val.labels.numpy(), layout, ground)


def _leaked(
    classifier: Classifier,
    train: Split | None,
    val: Split,
    test: Split,
    dataset: DatasetCard,
    directory: Path,
    batch_size: int,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The test images that resemble one of train or val by their pixels, bool [N], and those of them that leak.

    All of them count as leaks where the train images, with which the model could compare them, are not here.
    """
    resembling = read_leaked(directory, "test", len(test))
    if train is None or not resembling.any():
        return resembling, resembling
    groups = read_groups(directory, sum(dataset.sizes.values()))
    return resembling, confirm_leaked(classifier, train, val, test, resembling, groups, batch_size)


def _measure(
    classifier: Classifier, logits: Floats, test: Split, dataset: DatasetCard, settings: Evaluate, temperature: float
) -> Evaluation:
    """The metrics of the model as it is registered, and those at ``temperature`` and with augmentation.

    ``logits`` [N, classes] are the model's for the ``test`` images.
    """
    labels = test.labels.numpy()

    def measured(logits: Floats) -> Evaluation:
        return measure(logits, labels, dataset.classes, top_k=settings.top_k, bins=settings.calibration_bins)

    found = measured(logits)
    at_temperature = measured(logits / temperature).summary
    summary = found.summary | _named("calibrated", at_temperature, CALIBRATED_METRICS)
    if settings.tta != "none":
        averaging = partial(average_logits, classifier, tta=settings.tta)
        augmented = measured(predict_logits(averaging, test, settings.batch_size).numpy()).summary
        summary |= _named("tta", augmented, TTA_METRICS)
    return replace(found, summary=summary)


def _measure_robustness(
    classifier: Classifier, test: Split, correct: NDArray[np.bool_], settings: Evaluate
) -> Robustness | None:
    """The robustness if it is wanted, measured on a GPU if there is one."""
    if settings.corruptions == "none":
        return None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    set_tf32(device, "fp32")
    with progress() as display:
        task = display.add_task("evaluate: corrupted images", total=len(test), note="")
        model = classifier.to(device)
        found = measure_robustness(
            model, test, correct, settings.batch_size, device, lambda images: display.advance(task, images)
        )
    classifier.to(CPU)
    return found


def _with_sets(found: Evaluation, members: Members | None, classes: Sequence[str]) -> Evaluation:
    """The metrics with those of the prediction sets ``members`` bool [N, classes], if there are any."""
    if members is None:
        return found
    coverages = coverage_by_class(members, found.labels)
    per_class = {name: found.per_class[name] | own for name, own in zip(classes, coverages, strict=True)}
    return replace(found, summary=found.summary | measure_sets(members, found.labels), per_class=per_class)


def _named(prefix: str, summary: Mapping[str, float], metrics: Sequence[str]) -> dict[str, float]:
    """Some metrics of a summary with their intervals, under names that begin with ``prefix``."""
    return {f"{prefix}_{key}{end}": summary[f"{key}{end}"] for key in metrics for end in ("", "_low", "_high")}


def _write(found: Evaluation, test: Split, dataset: DatasetCard, slices: Sequence[Slice], directory: Path) -> None:
    images, classes = test.pixels, dataset.classes
    write_json(directory / "metrics.json", found.summary)
    write_json(directory / "per_class.json", found.per_class)
    write_json(directory / "confusion_matrix.json", {"classes": classes, "counts": found.confusion.tolist()})
    (directory / "classification_report.txt").write_text(found.report, encoding="utf-8")
    write_spreadsheet(
        directory / "confusion_matrix.csv",
        ["true \\ predicted", *classes],
        ([name, *row] for name, row in zip(classes, found.confusion.tolist(), strict=True)),
    )
    write_gallery(images, found, classes, directory)
    title = (
        f"Accuracy {found.summary['accuracy']:.2%} on {counted(len(found.labels), 'test image')}\n"
        f"95 % interval {found.summary['accuracy_low']:.2%} to {found.summary['accuracy_high']:.2%}"
    )
    for name, figure in (
        ("confusion_matrix", plots.confusion_matrix(found.confusion, classes, title)),
        ("class_scores", plots.class_scores(found.per_class)),
        ("predictions", plots.prediction_grid(images, found, classes)),
        ("worst_mistakes", plots.worst_mistakes(images, found, classes)),
        *([("slices", plots.slice_accuracies(slices, found.summary["accuracy"]))] if slices else []),
    ):
        plotting.save(figure, directory / f"{name}.png")


def _write_heat_maps(
    classifier: Classifier, found: Evaluation, test: Split, dataset: DatasetCard, directory: Path
) -> None:
    """Write explained_mistakes.png and class_maps.png, as far as there is something to explain, and time."""
    explainer = Explainer(classifier, dataset.shape)
    try:
        for name, draw in (("explained_mistakes", explained_mistakes), ("class_maps", class_maps)):
            if figure := draw(test.pixels, found, dataset.classes, explainer):
                plotting.save(figure, directory / f"{name}.png")
    except ModelError as problem:
        warn(f"evaluate: no {problem}")
